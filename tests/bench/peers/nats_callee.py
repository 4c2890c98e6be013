"""Answers what it is given over NATS: `nats_callee.py URL`. JSON as linkly's own JSON is made, on uvloop."""

import asyncio
import json
import sys

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg


async def main(url: str) -> None:
    connection = await nats.connect(url)
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode

    async def echo(message: Msg) -> None:
        await message.respond(encode({"text": decode(message.data)["text"]}))

    await connection.subscribe("bench.echo", cb=echo)
    await connection.flush()
    print(json.dumps({}), flush=True)
    await asyncio.Event().wait()


uvloop.run(main(sys.argv[1]))
