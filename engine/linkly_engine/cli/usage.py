"""The commands there are, and the error of a command line."""

COMMANDS = ("project", "worker", "database", "queue", "functions", "workers", "check", "completion")
"""Answered by `linkly_engine.cli.commands`; everything else but `trigger` runs the engine."""


class UsageError(Exception):
    """The command line is wrong; `exit_code` is 2 for flags, 1 for payloads."""

    def __init__(self, text: str, exit_code: int = 2) -> None:
        super().__init__(text)
        self.exit_code = exit_code
