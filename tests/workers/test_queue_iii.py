"""iii's functions that look at topics and dead letters: its shapes, its codes, its names."""

import pytest

from linkly import LinklyError, durable_subscriber
from linkly.errors import HandlerFailed
from support.queue_workers import App, until_states

QUEUES = {"mails": {"max_retries": 1, "concurrency": 3}, "order.created": {}}
TITLE = "order.created::app::work@default"


class Broken(App):
    """Fails until it is repaired; subscribes to topics if told."""

    def __init__(self, **topics):
        super().__init__(self.fail)
        self.topics = topics
        self.repaired = False

    def triggers_of(self, function):
        return [
            durable_subscriber(topic, max_retries=0)
            for topic, functions in self.topics.items()
            if function.id in functions
        ]

    async def fail(self, payload):
        if not self.repaired:
            raise HandlerFailed("not today")


async def dead_mails(bus, count):
    """Let so many jobs of queue `mails` die, and return their receipts."""
    jobs = [{"function_id": "app::work", "queue": "mails", "payload": {"n": n}} for n in range(count)]
    receipts = (await bus.trigger("queue::enqueue_many", {"jobs": jobs}))["messageReceiptIds"]
    await until_states(bus, dead=count)
    return receipts


async def stats(bus, topic):
    return await bus.trigger("engine::queue::topic_stats", {"topic": topic})


async def test_a_dead_letter_has_what_iii_shows_of_it(running_queues):
    async with running_queues(Broken(), queue_configs=QUEUES) as bus:
        [receipt] = await dead_mails(bus, 1)
        [letter] = await bus.trigger("engine::queue::dlq_messages", {"topic": "mails"})
        assert await bus.trigger("engine::queue::dlq_messages", {"queue": "mails"}) == [letter]
    failed_at = letter.pop("failed_at")
    assert letter.pop("error").endswith(": not today")
    assert letter == {"id": receipt, "payload": {"n": 0}, "retries": 1, "size_bytes": 7}
    assert failed_at > 1_600_000_000


async def test_dead_letters_are_listed_page_by_page(running_queues):
    async with running_queues(Broken(), queue_configs={"mails": {"max_retries": 1, "concurrency": 1}}) as bus:
        await dead_mails(bus, 5)
        request = {"topic": "mails", "offset": 1, "limit": 3}
        page = await bus.trigger("engine::queue::dlq_messages", request)
    assert [letter["payload"]["n"] for letter in page] == [1, 2, 3]


async def test_all_dead_letters_of_a_queue_are_redriven_and_begin_anew(running_queues):
    app = Broken()
    async with running_queues(app, queue_configs=QUEUES) as bus:
        await dead_mails(bus, 3)
        app.repaired = True
        assert await bus.trigger("iii::queue::redrive", {"queue": "mails"}) == {"queue": "mails", "redriven": 3}
        await until_states(bus, done=3)
        assert await bus.trigger("iii::queue::redrive", {"topic": "mails"}) == {"queue": "mails", "redriven": 0}
    assert [job["attempt"] for job in app.jobs] == [1] * 6


async def test_one_dead_letter_is_redriven_and_another_one_discarded(running_queues):
    app = Broken()
    async with running_queues(app, queue_configs=QUEUES) as bus:
        first, second, third = await dead_mails(bus, 3)
        app.repaired = True
        redriven = await bus.trigger("iii::queue::redrive_message", {"queue": "mails", "message_id": first})
        assert redriven == {"queue": "mails", "message_id": first, "redriven": 1}
        discarded = await bus.trigger("iii::queue::discard_message", {"queue": "mails", "message_id": second})
        assert discarded == {"queue": "mails", "message_id": second, "redriven": 1}
        await until_states(bus, done=1, discarded=1, dead=1)
        again = await bus.trigger("iii::queue::discard_message", {"queue": "mails", "message_id": second})
        assert again["redriven"] == 0
        [left] = await bus.trigger("engine::queue::dlq_messages", {"topic": "mails"})
    assert left["id"] == third


async def test_a_message_of_another_queue_is_left_alone(running_queues):
    async with running_queues(Broken(), queue_configs=QUEUES) as bus:
        [receipt] = await dead_mails(bus, 1)
        for verb in ("redrive_message", "discard_message"):
            answer = await bus.trigger(f"iii::queue::{verb}", {"queue": "default", "message_id": receipt})
            assert answer == {"queue": "default", "message_id": receipt, "redriven": 0}


async def test_topics_and_named_queues_are_listed_with_their_consumers(running_queues):
    app = Broken(**{"order.created": ["app::work", "app::other"], "order.gone": ["app::work"]})
    async with running_queues(app, queue_configs=QUEUES) as bus:
        rows = await bus.trigger("engine::queue::list_topics", {})
    assert sorted((row["name"], row["broker_type"], row["subscriber_count"]) for row in rows) == [
        ("default", "builtin", 10),
        ("mails", "builtin", 3),
        ("order.created", "builtin", 2),
        ("order.created", "builtin", 10),
        ("order.gone", "builtin", 1),
    ]


async def test_a_topic_counts_what_all_of_its_subscriptions_have(running_queues):
    app = Broken(topic=["app::work", "app::other"])
    async with running_queues(app) as bus:
        await bus.trigger("iii::durable::publish", {"topic": "topic", "data": 1})
        await until_states(bus, dead=2)
        assert await stats(bus, "topic") == {"depth": 0, "consumer_count": 2, "dlq_depth": 2, "config": None}
        assert len(await bus.trigger("engine::queue::dlq_messages", {"topic": "topic"})) == 2
        counted = await bus.trigger("engine::queue::dlq_topics", {})
        assert {(row["topic"], row["broker_type"], row["message_count"]) for row in counted} == {
            ("default", "function_queue", 0),
            ("topic", "builtin", 2),
        }
        app.repaired = True
        redriven = await bus.trigger("iii::queue::redrive", {"queue": "topic"})
        assert redriven == {"queue": "topic", "redriven": 2}
        await until_states(bus, done=2)


async def test_jobs_that_wait_and_run_are_the_depth(running_queues):
    async with running_queues(queue_configs=QUEUES) as bus:
        job = {"function_id": "nobody::serves", "queue": "mails"}
        await bus.trigger("queue::enqueue_many", {"jobs": [job, job, {**job, "delay_ms": 60_000}]})
        assert await stats(bus, "mails") == {"depth": 2, "consumer_count": 3, "dlq_depth": 0, "config": None}


async def test_what_there_is_not_has_nothing(running_queues):
    async with running_queues() as bus:
        assert await stats(bus, "nobody") == {"depth": 0, "consumer_count": 0, "dlq_depth": 0, "config": None}
        assert await bus.trigger("engine::queue::dlq_messages", {"topic": "nobody"}) == []
        assert await bus.trigger("iii::queue::redrive", {"queue": "nobody"}) == {"queue": "nobody", "redriven": 0}


async def test_a_topic_that_has_the_name_of_a_queue_is_reached_by_its_full_title(running_queues):
    app = Broken(**{"order.created": ["app::work"]})
    async with running_queues(app, queue_configs=QUEUES) as bus:
        await bus.trigger("iii::durable::publish", {"topic": "order.created", "data": {"n": 1}})
        await until_states(bus, dead=1)
        assert (await stats(bus, "order.created"))["dlq_depth"] == 0
        assert (await stats(bus, TITLE))["dlq_depth"] == 1
        [letter] = await bus.trigger("engine::queue::dlq_messages", {"topic": TITLE})
        assert letter["payload"] == {"n": 1}
        app.repaired = True
        assert await bus.trigger("iii::queue::redrive", {"queue": TITLE}) == {"queue": TITLE, "redriven": 1}
        await until_states(bus, done=1)


@pytest.mark.parametrize(
    "function_id, payload, code",
    [
        ("engine::queue::topic_stats", {}, "topic_required"),
        ("engine::queue::dlq_messages", {"topic": ""}, "topic_required"),
        ("iii::queue::redrive", {"queue": ""}, "queue_not_set"),
        ("iii::queue::redrive_message", {"message_id": "m"}, "queue_not_set"),
        ("iii::queue::redrive_message", {"queue": "mails"}, "message_id_not_set"),
        ("iii::queue::discard_message", {"queue": "mails", "message_id": ""}, "message_id_not_set"),
    ],
)
async def test_what_is_not_said_has_iii_s_code(running_queues, function_id, payload, code):
    async with running_queues() as bus:
        with pytest.raises(LinklyError) as caught:
            await bus.trigger(function_id, payload)
    assert caught.value.code == code


async def test_a_redriven_message_of_a_fifo_subscription_is_last_in_its_line(running_queues):
    class Line(Broken):
        def triggers_of(self, function):
            return [durable_subscriber("t", fifo=True, max_retries=0)] if function.id == "app::work" else []

        async def fail(self, payload):
            if payload == 0 and not self.repaired:
                raise HandlerFailed("not today")

    app = Line()
    async with running_queues(app) as bus:
        for n in range(2):
            await bus.trigger("iii::durable::publish", {"topic": "t", "data": n})
        await until_states(bus, dead=1, done=1)
        app.repaired = True
        await bus.trigger("iii::queue::redrive", {"queue": "t"})
        await until_states(bus, done=2)
        assert (await bus.trigger("queue::verify", {}))["ok"]
    assert app.calls == [0, 1, 0]


async def test_kept_messages_are_in_the_accounts(running_queues):
    async with running_queues() as bus:
        await bus.trigger("iii::durable::publish", {"topic": "nobody", "data": 1})
        verified = await bus.trigger("queue::verify", {})
        assert verified["ok"], verified["differences"]
        assert {row["queue"]: row["waiting"] for row in verified["queues"]}["kept"] == 1
