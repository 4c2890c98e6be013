"""Functions that run before a function, and may answer in its place (docs/workers.md#http)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from linkly import Bus, HttpRequest
from linkly.errors import CallTimeout
from linkly_workers.http.response import Reply, UnsendableResponse, error_reply, reply

log = logging.getLogger("linkly.http")


async def run_middleware(
    bus: Bus, function_ids: list[str], request: HttpRequest, namespace: str, left_s: Callable[[], float]
) -> Reply | None:
    """Call each in its order; return the response of the first that answers, `None` if the request goes on.

    Raises:
        LinklyError: One failed; not when it took longer than the request may take, which is answered with 504.
    """
    for function_id in function_ids:
        try:
            answer = await bus.trigger(
                function_id,
                {
                    "phase": "preHandler",
                    "request": {
                        "path_params": request.path_params,
                        "query_params": request.query_params,
                        "headers": request.headers,
                        "method": request.method,
                    },
                    "context": {},
                },
                namespace=namespace,
                timeout_s=left_s(),
            )
        except CallTimeout:
            return error_reply(504, "MIDDLEWARE_TIMEOUT", "Middleware timeout")
        action = answer.get("action") if isinstance(answer, dict) else None
        if action == "respond":
            response = answer.get("response") or {}
            if not isinstance(response, dict):
                raise UnsendableResponse(function_id, "`response` is no map")
            return reply({"body": {}, **response}, function_id)
        if action != "continue":
            log.warning("middleware `%s` answered neither `continue` nor `respond`: going on", function_id)
    return None
