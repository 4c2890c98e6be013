"""Which changes in a worker's folder are reported."""

import asyncio
import shutil
from contextlib import asynccontextmanager

from linkly_engine.process.watch import Watch


@asynccontextmanager
async def watching(folder, **options):
    reports = asyncio.Queue()
    watch = Watch(folder, reports.put_nowait, **options)
    try:
        async with asyncio.timeout(20):
            await watch.armed()
            yield reports
    finally:
        await watch.stop()


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_sources_and_dependencies_are_told_apart(tmp_path):
    write(tmp_path / "src/main.py")
    async with watching(tmp_path) as reports:
        write(tmp_path / "src/main.py", "y")
        write(tmp_path / "src/package.json")
        write(tmp_path / "package.json")
        write(tmp_path / "iii.worker.yaml")
        changes = await reports.get()
        assert sorted(changes.sources) == ["src/main.py", "src/package.json"]
        assert sorted(changes.dependencies) == ["iii.worker.yaml", "package.json"]


async def test_what_is_made_by_programs_is_not_reported(tmp_path):
    for folder in ("node_modules/a", "dist", "src/__pycache__", ".git", ".linkly/logs", "own/logs"):
        write(tmp_path / folder / "file")
    async with watching(tmp_path, ignore=tmp_path / "own") as reports:
        for name in (
            "node_modules/a/file",
            "dist/file",
            "src/__pycache__/file",
            ".git/file",
            ".linkly/logs/file",
            "own/logs/file",
            "build/new",
            "data.db-wal",
            "src/main.py.swp",
            "src/main.py~",
        ):
            write(tmp_path / name, "y")
        write(tmp_path / "src/main.py", "y")
        assert (await reports.get()).sources == ["src/main.py"]


async def test_files_in_new_folders_are_reported(tmp_path):
    async with watching(tmp_path) as reports:
        write(tmp_path / "src/deep/new.py")
        assert any(path.startswith("src") for path in (await reports.get()).sources)
        # The new folders are watched a moment later: the first write that is seen ends this.
        while True:
            write(tmp_path / "src/deep/new.py", "y")
            try:
                async with asyncio.timeout(0.5):
                    assert (await reports.get()).sources == ["src/deep/new.py"]
                    break
            except TimeoutError:
                continue


async def test_a_folder_that_is_replaced_as_a_whole_is_watched_again(tmp_path):
    folder = tmp_path / "w"
    write(folder / "main.py")
    async with watching(folder) as reports:
        shutil.rmtree(folder)
        await reports.get()
        write(folder / "main.py", "y")
        while "again.py" not in (await self_writing(reports, folder)).sources:
            pass


async def self_writing(reports, folder):
    """Write until something is reported."""
    while True:
        write(folder / "again.py", "z")
        try:
            async with asyncio.timeout(0.5):
                return await reports.get()
        except TimeoutError:
            continue


async def test_an_editor_that_replaces_files_by_rename_is_understood(tmp_path):
    write(tmp_path / "main.py")
    async with watching(tmp_path) as reports:
        write(tmp_path / "main.py.tmp", "y")
        (tmp_path / "main.py.tmp").replace(tmp_path / "main.py")
        assert (await reports.get()).sources == ["main.py"]
