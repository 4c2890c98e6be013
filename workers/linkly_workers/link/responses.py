"""What all HTTP responses of the link worker have in common."""

from __future__ import annotations

from typing import Any

from linkly import HttpRequest, HttpResponse
from linkly.errors import InvalidArguments, InvalidPayload, LinklyError, NotFound
from linkly_workers._scripts import Unavailable
from linkly_workers.link.codes import InvalidCode
from linkly_workers.link.shapes import Refusal
from linkly_workers.link.stores.store import CodeTaken, KeyReused
from linkly_workers.link.urls import InvalidUrl

NO_STORE = "private, no-store"
NOT_FOUND = Refusal("link not found")
AWAY = Refusal("the links cannot be reached at the moment; nothing was counted or changed, try again in a second")
"""Why is for the log: this is read by whoever follows a link."""
KEY_CHARACTERS = 255

STATUS: dict[type[LinklyError], int] = {
    InvalidUrl: 400,
    InvalidCode: 400,
    InvalidArguments: 400,
    NotFound: 404,
    CodeTaken: 409,
    KeyReused: 422,
    Unavailable: 503,
}


def answer(status: int, body: Any) -> HttpResponse:
    """Return a response that no cache keeps."""
    # Caches may keep a 404 or a 410 that says nothing of it (RFC 9110 15.1), and the code may lead somewhere soon.
    return HttpResponse(status_code=status, headers={"Cache-Control": NO_STORE}, body=body)


def refused(error: LinklyError) -> HttpResponse:
    """Return the response for an error that is the client's; others are the gateway's to report."""
    status = STATUS.get(type(error))
    if status is None:
        raise error
    if status == 503:
        return HttpResponse(status_code=503, headers={"Cache-Control": NO_STORE, "Retry-After": "1"}, body=AWAY)
    return answer(status, NOT_FOUND if status == 404 else Refusal(error.message))


def code_in_path(request: HttpRequest) -> str:
    """Return the code that a request's path names.

    Raises:
        InvalidPayload: There is none: the request is not the gateway's, whose routes all have one.
    """
    code = request.path_params.get("code")
    if code is None:
        raise InvalidPayload(
            "the request names no link: `path_params.code` is missing; the gateway fills it in from the path, "
            'who calls this function without it gives {"path_params": {"code": "CODE"}}'
        )
    return code


def idempotency_key(request: HttpRequest) -> str | None:
    """Return a request's `Idempotency-Key` header.

    Raises:
        InvalidArguments: It is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_CHARACTERS:
        raise InvalidArguments(f"the Idempotency-Key header has {len(key)} characters; allowed: 1 to {KEY_CHARACTERS}")
    return key
