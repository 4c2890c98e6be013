"""Why a program ended, in one line."""

import pytest

from linkly_engine.process.ending import error_line

NODE = """node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module 'express'
Require stack:
- /app/index.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)
    at node:internal/main/run_main_module:28:49 {
  code: 'MODULE_NOT_FOUND',
}

Node.js v20.11.0
npm error Lifecycle script `start` failed with error:
npm error code 1
npm error path /app"""

NODE_CODE = """TypeError [ERR_INVALID_ARG_TYPE]: The "path" argument must be of type string
    at main (file:///app/index.mjs:3:9)
    at [cause]: Error: inner

Node.js v20.11.0"""

PYTHON = """Traceback (most recent call last):
  File "main.py", line 3, in <module>
    first()
ValueError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "main.py", line 5, in <module>
    import missing
ModuleNotFoundError: No module named 'missing'"""

HANDLED_LONG_AGO = """Traceback (most recent call last):
ValueError: handled
a
b
c
d
e"""


PIP = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/nix/
ERROR: Could not find a version that satisfies the requirement nix==1 (from versions: none)
ERROR: No matching distribution found for nix==1"""

NPM = """npm error code E404
npm error 404 Not Found - GET https://registry.npmjs.org/nix - Not found
npm error 404
npm error 404  The requested resource 'nix@*' could not be found or you do not have permission to access it.
npm error A complete log of this run can be found in: /tmp/.npm/_logs/x.log"""


@pytest.mark.parametrize(
    "written, line",
    [
        (
            PIP,
            "Could not find a version that satisfies the requirement nix==1 (from versions: none)"
            " | No matching distribution found for nix==1",
        ),
        (
            NPM,
            "404 Not Found - GET https://registry.npmjs.org/nix - Not found"
            " | 404  The requested resource 'nix@*' could not be found or you do not have permission to access it.",
        ),
        (NODE, "Error: Cannot find module 'express'"),
        (NODE_CODE, 'TypeError [ERR_INVALID_ARG_TYPE]: The "path" argument must be of type string'),
        (PYTHON, "ModuleNotFoundError: No module named 'missing'"),
        (HANDLED_LONG_AGO, None),
        ("Error: said by a program that goes on\nand says more", None),
        ("just a line", None),
        ("", None),
    ],
)
def test_it_is_the_line_that_names_the_error(written, line):
    assert error_line([each.strip() for each in written.splitlines() if each.strip()]) == line
