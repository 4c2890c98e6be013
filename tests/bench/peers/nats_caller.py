"""Calls over NATS when told to: `nats_caller.py URL`. JSON as linkly's own JSON is made, on uvloop."""

import sys
from typing import Any

import msgspec
import nats
import uvloop
from turns import closed_loop, serve_turns, sized

TIMEOUT_S = 30.0


async def main(url: str) -> None:
    connection = await nats.connect(url)
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode

    async def call(payload: dict[str, Any]) -> Any:
        return decode((await connection.request("bench.echo", encode(payload), timeout=TIMEOUT_S)).data)

    async def turn(in_flight: int, payload_bytes: int, seconds: float) -> dict[str, float]:
        payload = sized(payload_bytes)
        assert await call(payload) == payload
        return await closed_loop(lambda: call(payload), in_flight, seconds)

    await serve_turns(turn)


uvloop.run(main(sys.argv[1]))
