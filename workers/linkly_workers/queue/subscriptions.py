"""Provides trigger type `durable:subscriber`: who gets the messages of durable topics.

A subscription is what one function has of one topic: (topic, namespace, function). It is a queue of its own, and
outlives the worker that has bound it: bindings come and go with workers, and only one that its code takes back ends it.
What it asks for is stored with it, so that it is served after a restart before its worker is back.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from linkly.clock import Clock, time_limit
from linkly.errors import LinklyError
from linkly.queue import SubscriberTrigger
from linkly.trigger import Binding, TriggerType
from linkly_workers._scripts import Unavailable
from linkly_workers.queue.service import Service
from linkly_workers.queue.settings import SubscriptionSettings
from linkly_workers.queue.terms import Terms
from linkly_workers.queue.topics import Key

log = logging.getLogger("linkly.queue")

SETTLED_WITHIN_S = 5.0
"""How long somebody who publishes waits for subscriptions that are being made."""

AGAIN_S = 1.0
"""How often a subscription is tried that the database does not take."""


class Subscriptions:
    """The bindings there are, and the subscriptions that they want.

    Args:
        settings: What subscribers do not say.
        stop_grace_s: How long running jobs may go on when a subscription turns fifo, or turns back.
    """

    def __init__(self, settings: SubscriptionSettings, stop_grace_s: float) -> None:
        self._settings = settings
        self._stop_grace_s = stop_grace_s
        self._bound: dict[Key, dict[str, SubscriberTrigger]] = {}
        self._wanted: dict[Key, SubscriberTrigger | None] = {}
        self._making = asyncio.Lock()
        self._settled = asyncio.Event()
        self._settled.set()
        self._service: Service | None = None
        self._retrying: asyncio.Task[None] | None = None

    def trigger_type(self) -> TriggerType:
        """Return what is provided."""
        return TriggerType(
            "durable:subscriber",
            "A message was published on a durable topic.",
            bind=self._bind,
            unbind=self._unbind,
            unregistered=self._unregistered,
            config_type=SubscriberTrigger,
        )

    async def open(self, service: Service, clock: Clock) -> None:
        """Make the subscriptions of all bindings in this database, before anything is published."""
        self._service = service
        self._clock = clock
        for key, triggers in self._bound.items():
            self._want(key, list(triggers.values())[-1])
        for key in list(self._wanted):
            with suppress(LinklyError):
                await self._make(key)

    async def close(self) -> None:
        """Make no more of them until this is opened again."""
        self._service = None
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait([self._retrying])
            self._retrying = None

    async def settled(self) -> None:
        """Wait until there is no subscription that the database has yet to take.

        Raises:
            Unavailable: It does not take one for some time already.
        """
        if not self._settled.is_set():
            try:
                async with time_limit(self._clock, SETTLED_WITHIN_S):
                    await self._settled.wait()
            except TimeoutError:
                raise Unavailable(
                    "the database does not take new subscriptions at the moment; nothing was published",
                    details={"retryable": True},
                ) from None

    # --- bindings ------------------------------------------------------------------------------------------

    async def _bind(self, binding: Binding) -> None:
        key = _key(binding)
        if key is None:
            log.warning("no message reaches `%s`: its durable:subscriber says no `topic`", binding.function_id)
            return
        self._bound.setdefault(key, {})[binding.id] = binding.config
        self._want(key, binding.config)
        if self._service is not None:
            await self._make(key)

    async def _unbind(self, binding: Binding) -> None:
        self._forget(binding)

    async def _unregistered(self, binding: Binding) -> None:
        """End the subscription, unless another binding has it too; what it has not handled waits until it is back."""
        key = self._forget(binding)
        if key is None or key in self._bound:
            return
        self._want(key, None)
        if self._service is not None:
            await self._make(key)

    def _forget(self, binding: Binding) -> Key | None:
        key = _key(binding)
        if key is not None:
            bound = self._bound.get(key, {})
            bound.pop(binding.id, None)
            if not bound:
                self._bound.pop(key, None)
        return key

    # --- subscriptions -------------------------------------------------------------------------------------

    def _want(self, key: Key, trigger: SubscriberTrigger | None) -> None:
        """Note what the newest binding asks for; `None`: that there is no subscription."""
        self._wanted[key] = trigger
        self._settled.clear()

    def _no_longer(self, key: Key) -> None:
        self._wanted.pop(key, None)
        if not self._wanted:
            self._settled.set()

    async def _make(self, key: Key) -> None:
        """Make a subscription as it is wanted, or end it; if the database is away, later.

        Raises:
            LinklyError: The database refuses it.
        """
        try:
            async with self._making:
                service, trigger = self._service, self._wanted.get(key)
                if service is None or key not in self._wanted:
                    return
                await (self._end(service, key) if trigger is None else self._subscribe(service, key, trigger))
        except Unavailable as error:
            if self._retrying is None:
                log.warning("a subscription to `%s` waits for the database: %s", key.topic, error)
                self._retrying = asyncio.get_running_loop().create_task(self._retry(), name="queue: subscribe")
            return
        except LinklyError as error:
            log.error("the subscription of `%s` to `%s` stays as it is: %s", key.function_id, key.topic, error)
            self._no_longer(key)
            raise
        if key in self._wanted and self._wanted[key] is trigger:
            self._no_longer(key)

    async def _retry(self) -> None:
        while self._wanted:
            await self._clock.sleep(AGAIN_S)
            for key in list(self._wanted):
                with suppress(LinklyError):
                    await self._make(key)
        self._retrying = None

    async def _subscribe(self, service: Service, key: Key, trigger: SubscriberTrigger) -> None:
        terms = Terms.of(trigger, self._settings)
        queue = service.queues.subscription(key)
        if queue is not None and queue.row.settings == terms.text() and queue.row.ended_at is None:
            return
        if queue is not None and queue.settings.type != terms.type:
            await service.queues.remove(queue, self._stop_grace_s)
        row = await service.topics.subscribe(key, terms, earliest=trigger.start == "earliest")
        service.queues.subscribed(row)

    async def _end(self, service: Service, key: Key) -> None:
        queue = service.queues.subscription(key)
        if queue is not None and queue.row.ended_at is None:
            queue.consumer.paused = True
            await service.topics.unsubscribe(queue.row)
            queue.row.ended_at = service.store.now()


def _key(binding: Binding) -> Key | None:
    trigger: SubscriberTrigger = binding.config
    topic = trigger.topic or trigger.queue
    return Key(topic, binding.namespace, binding.function_id) if topic else None
