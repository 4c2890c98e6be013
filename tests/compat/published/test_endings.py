"""A program that ends behind its registrations goes on serving, with a published client and with linkly's own."""

import json

import pytest

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("version", ["0.16.1", "0.19.7", "0.22.1", "0.25.0", "linkly"])
async def test_a_program_that_has_ended_serves(new_linkly, command, version):
    linkly = await new_linkly()
    program = linkly.run_client(command(version, "lingers"))
    await program.line(lambda line: line == "the end")
    await linkly.until_there("lingers::hello")
    assert json.loads(await linkly.trigger("lingers::hello", "name=Ann")) == {"message": "hello Ann"}
    assert program.process.returncode is None
