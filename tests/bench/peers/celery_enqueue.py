"""Enqueues on Celery when told to: `celery_enqueue.py URL`."""

import sys

from celery import Celery
from turns_of_threads import serve_turns

THREADS = 64

app = Celery("bench", broker=sys.argv[1])
app.conf.update(task_ignore_result=True, broker_pool_limit=THREADS)


@app.task(name="bench.job")
def job(number: int, text: str) -> None:
    """Do nothing."""


serve_turns(lambda: job.delay(1, "x" * 60))
