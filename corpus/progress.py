"""Progress of a job: one protocol for all of them. Nothing here prints."""

from typing import Protocol


class OnProgress(Protocol):
    """Called as a job goes on; where it is shown is the caller's affair."""

    def __call__(self, stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        """Take the name of the stage, the items done, the items in all (None: unknown), and a remark."""


def silent(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
    """Report progress to no one."""
