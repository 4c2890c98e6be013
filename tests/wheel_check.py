"""Start the `linkly` of a freshly installed wheel and use it: `python tests/wheel_check.py VENV/bin`."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    linkly = str(Path(sys.argv[1]) / "linkly")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(
            f"workers:\n  - name: iii-worker-manager\n    config: {{port: {port}}}\n  - name: state\n"
            "  - name: database\n  - name: http\n    config: {port: 0}\n  - name: link\n"
        )
        engine = subprocess.Popen([linkly], cwd=folder, stderr=subprocess.PIPE, text=True)
        try:
            for line in engine.stderr:
                if "stop: Ctrl-C" in line:
                    break
            words = [linkly, "trigger", "--port", str(port), "link::create", "url=https://example.com", "code=demo"]
            answer = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
            assert json.loads(answer.stdout) == {"code": "demo", "url": "https://example.com"}, answer
        finally:
            engine.send_signal(signal.SIGTERM)
            code = engine.wait(30)
        assert code == 0, f"exit code {code}"
    print(f"the wheel works: {os.path.basename(linkly)} started, answered and stopped")


if __name__ == "__main__":
    main()
