"""Dramatiq: its worker imports this (`dramatiq dramatiq_jobs`), and as a program it enqueues when told to.

The url of Redis is in BENCH_REDIS.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from turns_of_threads import serve_turns

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor
def job(number: int, text: str) -> None:
    """Do nothing."""


if __name__ == "__main__":
    serve_turns(lambda: job.send(1, "x" * 60))
