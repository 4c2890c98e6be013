"""A queue that holds what it is given, so that a test can look at it, and run it when it likes."""

from __future__ import annotations

from typing import Any

import msgspec

from linkly.atomic import Committed, NotAtomic, Prepare, Prepared, PreparedOperation
from linkly.bus import Receipt
from linkly.function import function
from linkly.invocation import Json
from linkly.queue import SubscriberTrigger
from linkly.receipts import new_receipt
from linkly.timestamps import time_text
from linkly.trigger import Binding, TriggerType
from linkly.worker import Worker


class HeldJob(msgspec.Struct, kw_only=True):
    """A call that was enqueued, and its options.

    Attributes:
        function_id: What it is to run.
        payload: What that gets.
        queue: Name of the queue.
        namespace: Of the function.
        id: Its receipt.
    """

    function_id: str
    payload: Any = None
    queue: str = "default"
    namespace: str = "default"
    id: str = msgspec.field(default_factory=new_receipt)
    delay_ms: int | None = None
    run_at: str | None = None
    expires_at: str | None = None
    priority: int | None = None
    idempotency_key: str | None = None
    message_group: str | None = None


class _Jobs(msgspec.Struct):
    jobs: list[HeldJob]


class _Receipts(msgspec.Struct, rename="camel"):
    message_receipt_ids: list[str]


class _Message(msgspec.Struct):
    topic: str
    data: Any = None


class HeldQueue(Worker):
    """Stands in for the queue worker: accepts every job and message, of queues of any name, and runs nothing by itself.

    What is collected by `linkly.atomic` is held when it is committed.

    Attributes:
        jobs: Those that were enqueued and not run yet, in order.
        messages: What was published on durable topics and not handled yet, by topic.
    """

    name = "queue"

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[HeldJob] = []
        self.messages: list[tuple[str, Any]] = []
        self._subscriptions: dict[str, Binding] = {}

    def trigger_types(self) -> list[TriggerType]:
        """Return `durable:subscriber`."""
        return [
            TriggerType(
                "durable:subscriber",
                "Messages of a durable topic",
                bind=self._bind,
                unbind=self._unbind,
                config_type=SubscriberTrigger,
            )
        ]

    def enqueued(self, function_id: str) -> list[Any]:
        """Return the payloads of the jobs that are held for a function."""
        return [job.payload for job in self.jobs if job.function_id == function_id]

    def published(self, topic: str) -> list[Any]:
        """Return the messages that are held of a durable topic."""
        return [data for published, data in self.messages if published == topic]

    async def run(self) -> None:
        """Run what is held, and what that enqueues and publishes, one after the other; times and queues are ignored.

        Each job is run once. Messages come after the jobs.

        Raises:
            LinklyError: What a handler has raised; the jobs behind it are still held.
        """
        while self.jobs or self.messages:
            if self.jobs:
                job = self.jobs.pop(0)
                await self._call(job, None)
                continue
            topic, data = self.messages.pop(0)
            for binding in list(self._subscriptions.values()):
                if topic == (binding.config.topic or binding.config.queue):
                    queue = f"{topic}::{binding.function_id}@{binding.namespace}"
                    function_id, namespace = binding.function_id, binding.namespace
                    job = HeldJob(function_id=function_id, payload=data, queue=queue, namespace=namespace)
                    await self._call(job, topic)

    async def _call(self, job: HeldJob, topic: str | None) -> None:
        about = {
            "id": job.id,
            "queue": job.queue,
            "attempt": 1,
            "max_attempts": 1,
            "enqueued_at": time_text(self.bus.clock.time()),
            "idempotency_key": job.idempotency_key,
            "topic": topic,
            "message_group": job.message_group,
        }
        await self.bus.trigger(job.function_id, job.payload, namespace=job.namespace, metadata={"job": about})

    async def _bind(self, binding: Binding) -> None:
        self._subscriptions[binding.id] = binding

    async def _unbind(self, binding: Binding) -> None:
        del self._subscriptions[binding.id]

    def _hold(self, job: HeldJob) -> Receipt:
        self.jobs.append(job)
        return Receipt(job.id)

    @function("queue::enqueue")
    async def enqueue(self, job: HeldJob) -> Receipt:
        """Hold a job."""
        return self._hold(job)

    @function("queue::enqueue_many")
    async def enqueue_many(self, request: _Jobs) -> _Receipts:
        """Hold jobs."""
        return _Receipts([self._hold(job).message_receipt_id for job in request.jobs])

    @function("engine::queue::enqueue")
    async def enqueue_action(self, payload: dict[str, Any]) -> Receipt:
        """Hold the job of an enqueue action."""
        names = {"data": "payload", "messageReceiptId": "id"}
        return self._hold(msgspec.convert({names.get(name, name): given for name, given in payload.items()}, HeldJob))

    @function("iii::durable::publish")
    async def publish(self, message: _Message) -> None:
        """Hold a message."""
        self.messages.append((message.topic, message.data))

    @function("queue::prepare")
    async def prepare(self, request: Prepare) -> Prepared:
        """Take part in a transaction, which needs no statements for it.

        Raises:
            NotAtomic: Another function than those that enqueue and publish.
        """
        answers: list[Receipt | None] = []
        held: list[HeldJob | _Message] = []
        for call in request.operations:
            if call.function_id == "queue::enqueue":
                job = msgspec.json.decode(call.payload, type=HeldJob)
                held.append(job)
                answers.append(Receipt(job.id))
            elif call.function_id == "iii::durable::publish":
                held.append(msgspec.json.decode(call.payload, type=_Message))
                answers.append(None)
            else:
                raise NotAtomic(f"`{call.function_id}` cannot be part of a transaction")
        operations = [PreparedOperation([], Json(msgspec.json.encode(answer))) for answer in answers]
        return Prepared(operations, Json(msgspec.json.encode(held)))

    @function("queue::committed")
    async def committed(self, request: Committed) -> None:
        """Hold what was committed."""
        for each in msgspec.json.decode(request.after, type=list[dict[str, Any]]):
            if "topic" in each:
                await self.publish(msgspec.convert(each, _Message))
            else:
                self._hold(msgspec.convert(each, HeldJob))
