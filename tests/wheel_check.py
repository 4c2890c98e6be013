"""Start the `linkly` of a freshly installed wheel and use it: `python tests/wheel_check.py VENV/bin`."""

import json
import sys
import tempfile
from pathlib import Path

from support.engine_process import EngineProcess


def main() -> None:
    linkly = Path(sys.argv[1]).absolute() / "linkly"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(
            "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n  - name: state\n"
            "  - name: database\n  - name: http\n    config: {port: 0}\n  - name: link\n"
        )
        engine = EngineProcess(Path(folder), command=[str(linkly)])
        try:
            engine.start()
            answer = engine.trigger("link::create", "url=https://example.com", "code=demo")
            assert json.loads(answer.stdout) == {"code": "demo", "url": "https://example.com"}, answer
            code = engine.end()
            assert code == 0, f"exit code {code}"
        finally:
            engine.kill()
    print(f"the wheel works: {linkly.name} started, answered and stopped")


if __name__ == "__main__":
    main()
