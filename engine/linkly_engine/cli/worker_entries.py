"""`linkly worker add` and `remove`: edit config.yaml; a running engine follows, and is waited for.

Words are all understood before anything is written: either every worker is added, or the file stays as it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from linkly_engine import LISTENER
from linkly_engine.cli import command
from linkly_engine.cli.command import Failure, Target
from linkly_engine.cli.entries import absolute, folder_key, folder_of, names_of
from linkly_engine.cli.running_engine import RunningEngine, find_engine, wait_until_gone, wait_until_running
from linkly_engine.cli.show import done, note
from linkly_engine.cli.sources import Source, source_of
from linkly_engine.project.edit.edit import add_entry, remove_entry, replace_entry, replace_value
from linkly_engine.project.edit.file import change
from linkly_engine.project.edit.layout import Entry, Layout
from linkly_engine.project.entry import unnumbered
from linkly_engine.shipped import ALIASES, needed_by


@click.command(
    cls=command.Command,
    example="""
    linkly worker add http state database
    linkly worker add ./link
    linkly worker add hello:HelloWorker
    """,
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-f", "--force", is_flag=True, help="Not an error if it is there already: it is started again.")
@click.option("--reset-config", is_flag=True, help="Write its entry anew, with the settings it starts with.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the running engine has started it.")
@click.option("-y", "--yes", is_flag=True, help="Accepted; nothing is asked.")
@command.target_options
def add(sources: tuple[str, ...], force: bool, reset_config: bool, no_wait: bool, yes: bool, target: Target) -> int:
    """Add workers to config.yaml.

    A SOURCE is the name of a worker that ships, the folder of a program with an iii.worker.yaml or
    linkly.worker.yaml (it begins with . / or ~), or package.module:Class. What a worker cannot do without is added
    as well: `database` beside `queue`. Everything else in the file stays as it is written. A running engine takes the
    change over at once; exit code 2 if a worker does not run within 120 s.
    """
    path = target.path
    project = path.resolve().parent
    meant = [source_of(word, project) for word in sources]
    wanted = [source for source in meant if source.value]
    before: list[str] = []
    beside: list[Source] = []

    def decide(layout: Layout) -> Layout:
        before[:] = names_of(layout.entries, project)
        needs = [source_of(name, project) for source in wanted for name in _needed_by(source)]
        beside[:] = [source for source in needs if source.name not in [*before, *(each.name for each in wanted)]]
        for source in beside:
            layout = _added(layout, source, project, force=False, reset=False)
        for source in wanted:
            layout = _added(layout, source, project, force=force or reset_config, reset=reset_config)
        return layout

    if wanted:
        change(path, decide)
    for source in [*beside, *meant]:
        for each in source.notes:
            note(f"note: {each}")
        if source.value:
            said = "reset in" if reset_config else "is in"
            done(f"Worker {source.name} {said if source.name in before else 'added to'} {path}")
    if not wanted:
        return 0
    engine, why = find_engine(target)
    if engine is None:
        _warn(path)
        note(why)
        return 0
    names = _names_in_engine(path, [*beside, *wanted])
    return 0 if no_wait else _follow(engine, names, [name for name in names if name in before])


@click.command(
    cls=command.Command,
    example="""
    linkly worker remove link
    linkly worker remove link state -y
    """,
)
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the running engine has stopped it.")
@command.target_options
def remove(workers: tuple[str, ...], yes: bool, no_wait: bool, target: Target) -> int:
    """Remove workers from config.yaml.

    With the entry go the comments directly above it, and those below it that are indented deeper. Files of a
    program stay. A running engine stops the worker at once.
    """
    path = target.path
    project = path.resolve().parent
    removed: list[str] = []

    def decide(layout: Layout) -> Layout:
        removed.clear()
        for word in dict.fromkeys(workers):
            entry, name = _entry_of(layout, word, project, path)
            layout = remove_entry(layout, entry)
            removed.append(name)
        return layout

    if not yes:
        _ask(f"Remove {', '.join(workers)} from {path}?")
    change(path, decide)
    for name in removed:
        done(f"Worker {name} removed from {path}")
    engine, why = find_engine(target)
    if engine is None:
        note(why)
        return 0
    return 0 if no_wait else wait_until_gone(engine, [name for name in removed if "#" not in name])


def _needed_by(source: Source) -> list[str]:
    return needed_by(source.name) if source.value.get("name") == source.name else []


def _added(layout: Layout, source: Source, project: Path, *, force: bool, reset: bool) -> Layout:
    found = _same(layout, source, project)
    if found is None:
        return add_entry(layout, source.value)
    if not force:
        raise Failure(
            f"worker `{source.name}` is in {layout.file} already; --force starts it again, "
            "--reset-config writes its entry anew"
        )
    if reset:
        return replace_entry(layout, found, source.value)
    key = folder_key(found)
    if key is not None and "path" in source.value and found.value[key] != source.value["path"]:
        return replace_value(layout, found, key, str(source.value["path"]))
    return layout


def _same(layout: Layout, source: Source, project: Path) -> Entry | None:
    """Return the entry that the file has already: of that name, folder or module."""
    path = source.value.get("path")
    wanted = None if path is None else absolute(path, project)
    for entry, name in zip(layout.entries, names_of(layout.entries, project), strict=True):
        folder = folder_of(entry, project)
        if "module" in source.value:
            if entry.value.get("module") == source.value["module"]:
                return entry
        elif unnumbered(name) == source.name or (folder is not None and folder == wanted):
            return entry
    return None


def _entry_of(layout: Layout, word: str, project: Path, path: Path) -> tuple[Entry, str]:
    names = names_of(layout.entries, project)
    by_name = dict(zip(names, layout.entries, strict=True))
    wanted = word if word in by_name else ALIASES.get(word, word)
    if wanted in by_name:
        return by_name[wanted], wanted
    for name, entry in by_name.items():
        folder = folder_of(entry, project)
        if word == entry.value.get("module"):
            return entry, name
        if folder is not None and word.startswith((".", "/", "~")) and Path(word).expanduser().resolve() == folder:
            return entry, name
    several = [name for name in names if unnumbered(name) == wanted]
    if several:
        raise Failure(f"`{word}` stands in {path} more than once; say which: {', '.join(several)}")
    raise Failure(f"there is no worker `{word}` in {path}; there: {', '.join(names) or 'none'}")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise Failure("remove is destructive; say that you mean it with -y")
    if not click.confirm(question, default=False, err=True):
        raise Failure("Aborted, nothing was changed")


def _names_in_engine(path: Path, wanted: list[Source]) -> list[str]:
    """Return under which names the engine lists workers: a class is named by itself.

    Raises:
        ConfigError: A class cannot be loaded; the engine refuses the file as well.
    """
    modules = [source.value["module"] for source in wanted if "module" in source.value]
    names = [source.name for source in wanted if source.name != LISTENER and "module" not in source.value]
    if modules:
        from linkly_engine.project.loader import read

        names += [entry.name for entry in read(path)[0].workers if entry.module in modules]
    return names


def _follow(engine: RunningEngine, names: list[str], again: list[str]) -> int:
    """Wait for the running engine; workers that the file had before are made anew."""
    listed = {str(row.get("name")) for row in engine.listing().get("workers") or []}
    for name in again:
        if name in listed:
            engine.call("worker::restart", {"name": name}, timeout_ms=60_000)
    return wait_until_running(engine, names)


def _warn(path: Path) -> None:
    """Note what would keep an engine from starting with the file."""
    from linkly.errors import ConfigError
    from linkly_engine.project.loader import read

    try:
        read(path)
    except ConfigError as error:
        for line in error.message.splitlines():
            note(f"warning: {line}")
