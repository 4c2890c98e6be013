"""The image and the Compose project of examples/postgres, run without a container engine on a server of the tests."""

import asyncio
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from linkly import Client, Function
from support.engine_process import UP
from support.image import Image, can_contain
from support.ports import reserved_port
from support.postgres_server import MISSING, binaries, running_server
from support.program import Program

pytestmark = pytest.mark.skipif(binaries() is None, reason=MISSING)

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples/postgres"
SERVICE = yaml.safe_load((PROJECT / "compose.yaml").read_text("utf-8"))["services"]["linkly"]
README = (PROJECT / "README.md").read_text("utf-8")
SECRET = "/run/secrets/password"


@pytest.fixture(scope="module")
def image():
    # In /var/tmp: a container has a /tmp of its own, and its user may not look into the folders of root.
    with tempfile.TemporaryDirectory(prefix="linkly-image-", dir="/var/tmp") as folder:
        root = Path(folder)
        root.chmod(0o755)
        yield Image(ROOT / "Dockerfile", root)


class Service:
    """The service `linkly` of compose.yaml, with ports of its own and the server of the tests."""

    def __init__(self, image, server, http_port, worker_port):
        self.image, self.server = image, server
        self.http = f"http://127.0.0.1:{http_port}"
        self.worker_port = worker_port
        mount = next(each for each in SERVICE["volumes"] if each.startswith("./config.yaml:"))
        for source, target in ((PROJECT / "config.yaml", mount.split(":")[1]), (None, SECRET)):
            place = image.path(target)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(server.password if source is None else source.read_text("utf-8"))
            place.chmod(0o444)
        image.path("/etc/linkly").chmod(0o555)
        parts = urlsplit(SERVICE["environment"]["DATABASE_URL"])
        assert SERVICE["environment"]["DATABASE_PASSWORD_FILE"] == SECRET
        here = parts._replace(netloc=f"{parts.username}@127.0.0.1:{server.port}", path="/postgres")
        self.environment = {
            **SERVICE["environment"],
            "DATABASE_URL": here.geturl(),
            "DATABASE_PASSWORD_FILE": str(image.path(SECRET)),
            "HTTP_HOST": "127.0.0.1",  # what Compose publishes is not for others either
            "HTTP_PORT": str(http_port),
            "LINKLY_PORT": str(worker_port),
        }
        self.program = None

    def start(self):
        self.program = Program(self.image.words(self.image.command, self.environment), stream="stderr")
        self.program.until(UP)

    def health(self):
        """Return the exit code of the health check."""
        kind, *test = [word.replace("http://127.0.0.1:3111", self.http) for word in SERVICE["healthcheck"]["test"]]
        assert kind == "CMD"
        return subprocess.run(self.image.words(test, self.environment), check=False).returncode

    def process_1(self):
        """Return the process that a container engine would signal."""
        pid = self.program.process.pid
        if not can_contain():
            return pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def ended(self):
        """Stop it as `docker compose stop` does, and return its exit code."""
        subprocess.run(["kill", "-TERM", str(self.process_1())], check=True)
        return self.program.wait()


@pytest.fixture
def service(image):
    with running_server() as server, reserved_port() as http_port, reserved_port() as worker_port:
        service = Service(image, server, http_port, worker_port)
        try:
            service.start()
            yield service
        finally:
            service.program.send(signal.SIGKILL)
            service.program.wait()


async def test_the_service_is_healthy_shortens_links_and_finishes_its_calls(service):
    assert service.health() == 0
    async with httpx.AsyncClient(base_url=service.http, timeout=30) as client:
        made = await client.post("/links", json={"url": "https://iii.dev", "code": "iii"})
        assert made.status_code == 201
        assert (await client.get("/s/iii")).headers["location"] == "https://iii.dev"
        assert (await client.get("/links/iii/stats")).json()["total"] == 1

    async with Client(f"ws://127.0.0.1:{service.worker_port}", name="w") as worker:
        begun, may_finish = asyncio.Event(), asyncio.Event()

        async def slow(payload):
            begun.set()
            await may_finish.wait()
            return "finished"

        worker.register_function(Function("slow::call", slow))
        call = asyncio.create_task(worker.trigger("slow::call"))
        await asyncio.wait_for(begun.wait(), 30)
        ending = asyncio.create_task(asyncio.to_thread(service.ended))
        await asyncio.to_thread(service.program.until, "stopping")
        assert not ending.done()
        may_finish.set()
        assert await asyncio.wait_for(call, 30) == "finished"
        assert await asyncio.wait_for(ending, 30) == 0


async def test_without_its_database_the_service_is_not_healthy(service):
    assert service.health() == 0
    service.server.stop()
    async with httpx.AsyncClient(base_url=service.http, timeout=30) as client:
        assert (await client.get("/s/iii")).status_code == 503
    assert service.health() == 1


def test_the_backup_of_the_readme_brings_links_back(service):
    server = service.server
    said = re.findall(r"docker compose exec -T postgres (pg_[^`<>]+) [<>] linkly\.dump", README)
    dump, restore = (
        [
            str(server.bin / name),
            *(f"--host={server.folder}", f"--port={server.port}"),
            # The tests' database has another name.
            *(re.sub(r"^(--dbname=)?linkly$", r"\1postgres", word) for word in words),
        ]
        for name, *words in map(str.split, said)
    )
    environment = {"PGPASSWORD": server.password, "PATH": "/usr/bin:/bin"}
    with httpx.Client(base_url=service.http, timeout=30) as client:
        client.post("/links", json={"url": "https://iii.dev", "code": "kept"})
        kept = subprocess.run(dump, env=environment, stdout=subprocess.PIPE, check=True).stdout
        assert client.delete("/links/kept").status_code < 300
        assert client.get("/s/kept").status_code == 404
    assert service.ended() == 0
    subprocess.run(restore, env=environment, input=kept, check=True)
    service.start()
    with httpx.Client(base_url=service.http, timeout=30) as client:
        assert client.get("/s/kept").headers["location"] == "https://iii.dev"


@pytest.mark.skipif(not can_contain(), reason="only root may make a root file system that is read-only")
def test_nothing_in_the_image_can_be_written(image):
    for place in ("/etc/linkly/new", "/opt/linkly/new"):
        done = subprocess.run(image.words(["touch", place], {}), capture_output=True, text=True, check=False)
        assert (done.returncode, "Read-only file system" in done.stderr) == (1, True)
