"""The `engine::*` functions that list and describe functions, trigger types, triggers and workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkly.bus import DEFAULT_NAMESPACE
from linkly.errors import InvalidArguments, NotFound
from linkly.function import function
from linkly_engine.builtin import rows
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.tables import Tables

MAX_IDS = 32


class Listings:
    """What the tables hold.

    Args:
        calls_in_flight: Counts the calls that a worker serves, by its id.
        metrics_of: Returns what a worker has measured of itself lately, `None` if nothing.
    """

    def __init__(
        self, tables: Tables, calls_in_flight: Callable[[str], int], metrics_of: Callable[[WorkerRecord], Any]
    ) -> None:
        self._tables = tables
        self._calls_in_flight = calls_in_flight
        self._metrics_of = metrics_of

    @function("engine::functions::list")
    async def list_functions(
        self,
        search: str | None = None,
        prefix: str | None = None,
        worker: str | None = None,
        workers: list[str] | None = None,
        include_internal: bool = False,
    ) -> dict[str, Any]:
        """List functions, sorted by id.

        Args:
            search: Text in id or description; the best match comes first.
            prefix: Start of the id.
            worker: Name of the worker that serves them.
            workers: Names of several workers.
            include_internal: Also engine::* and functions marked internal.
        """
        wanted = {*(workers or []), *([worker] if worker else [])}
        found = [
            row
            for record in self._tables.functions
            if (include_internal or not record.internal) and record.id.startswith(prefix or "")
            for row in [rows.function_summary(record)]
            if not wanted or row["worker_name"] in wanted
        ]
        return {"functions": rows.ranked(found, "function_id", search)}

    @function("engine::functions::info")
    async def describe_functions(
        self,
        function_id: str | None = None,
        function_ids: list[str] | None = None,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Describe one function, or up to 32.

        Args:
            function_id: One id.
            function_ids: Several ids; unknown ones are marked `not_found`.
            namespace: Where to look; default: `default`, else the only namespace that has it.

        Raises:
            InvalidArguments: Neither or both were given, or more than 32.
            NotFound: There is no such function.
        """
        if (function_id is None) == (function_ids is None):
            raise InvalidArguments("give either `function_id` or `function_ids`")
        if function_id is not None:
            return self._describe(function_id, namespace)
        ids = list(dict.fromkeys(function_ids or []))
        if len(ids) > MAX_IDS:
            raise InvalidArguments(f"`function_ids` has {len(ids)} ids; at most {MAX_IDS} at a time")
        answers: list[dict[str, Any]] = []
        for each in ids:
            try:
                answers.append(self._describe(each, namespace))
            except NotFound:
                answers.append({"function_id": each, "error": "not_found"})
        return {"functions": answers}

    def _describe(self, function_id: str, namespace: str | None) -> rows.Row:
        spaces = [namespace] if namespace is not None else self._tables.functions.namespaces_with(function_id)
        found = [record for each in spaces if (record := self._tables.functions.find(each, function_id)) is not None]
        return rows.function_detail(self._tables, rows.only_one(found, "function", function_id))

    @function("engine::triggers::list")
    async def list_trigger_types(
        self,
        search: str | None = None,
        prefix: str | None = None,
        worker: str | None = None,
        include_internal: bool = False,
    ) -> dict[str, Any]:
        """List trigger types.

        Args:
            search: Text in id or description.
            prefix: Start of the id.
            worker: Name of their provider.
            include_internal: Also those of the engine itself.
        """
        found = [
            row
            for record in self._tables.triggers.types
            if (include_internal or not rows.is_internal_type(record.id)) and record.id.startswith(prefix or "")
            for row in [rows.type_summary(record)]
            if worker in (None, row["worker_name"])
        ]
        return {"triggers": rows.ranked(found, "id", search)}

    @function("engine::triggers::info")
    async def describe_trigger_type(self, id: str, namespace: str | None = None) -> dict[str, Any]:
        """Describe a trigger type.

        Args:
            id: Its id.
            namespace: Where to look; default: `default`.

        Raises:
            NotFound: There is no such type.
        """
        record = self._tables.triggers.find_type(namespace or DEFAULT_NAMESPACE, id)
        if record is None:
            raise NotFound(f"there is no trigger type `{id}`; is the worker that provides it running?")
        return rows.type_detail(self._tables, record)

    @function("engine::registered-triggers::list")
    async def list_triggers(
        self,
        search: str | None = None,
        trigger_type: str | None = None,
        function_id: str | None = None,
        worker: str | None = None,
        include_internal: bool = False,
        include_waiting: bool = False,
    ) -> dict[str, Any]:
        """List live triggers.

        Args:
            search: Text in the function id.
            trigger_type: Of this type only.
            function_id: Of this function only.
            worker: Name of the worker that registered them.
            include_internal: Also those on the engine's own types.
            include_waiting: Also those that do not fire yet; every row says its `status`, and the `reason` if it waits.
        """
        found = [
            row
            for binding in self._tables.triggers.bindings
            if (include_waiting or binding.live_at is not None)
            and (include_internal or not rows.is_internal_type(binding.trigger_type))
            and trigger_type in (None, binding.trigger_type)
            and function_id in (None, binding.function_id)
            for row in [rows.binding_summary(binding, with_status=include_waiting)]
            if worker in (None, row["worker_name"])
        ]
        return {"registered_triggers": rows.ranked(found, "function_id", search)}

    @function("engine::registered-triggers::info")
    async def describe_trigger(self, id: str) -> dict[str, Any]:
        """Describe one trigger.

        Args:
            id: Its id.

        Raises:
            NotFound: There is no such trigger.
        """
        binding = self._tables.triggers.find_binding(id)
        if binding is None:
            raise NotFound(f"there is no trigger `{id}`")
        return rows.binding_detail(self._tables, binding)

    @function("engine::workers::list")
    async def list_workers(
        self, search: str | None = None, runtime: str | None = None, status: str | None = None
    ) -> dict[str, Any]:
        """List workers, sorted by name; connections that sent no pid are left out.

        Args:
            search: Text in the name or description.
            runtime: For example node, python, engine.
            status: connected or available.
        """
        found = [
            row
            for row in map(self._worker_summary, rows.listed_workers(self._tables))
            if runtime in (None, row["runtime"]) and status in (None, row["status"])
        ]
        return {"workers": rows.ranked(found, "name", search) if search else found}

    @function("engine::workers::info")
    async def describe_worker(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Describe a worker: what it serves, provides and has bound.

        Args:
            name: Its name.
            namespace: Where to look.

        Raises:
            NotFound: There is none, or several in different namespaces.
        """
        found = [each for each in self._tables.workers if each.name == name and namespace in (None, each.home)]
        worker = rows.only_one(found, "worker", name)
        return rows.worker_detail(self._tables, worker, self._worker_summary(worker), self._metrics_of(worker))

    def _worker_summary(self, worker: WorkerRecord) -> rows.Row:
        return rows.worker_summary(self._tables, worker, self._calls_in_flight(worker.id))
