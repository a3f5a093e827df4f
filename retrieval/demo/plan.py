"""What a demonstration is to do, and where: a folder and a home of its own, whatever else is there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import UsageError
from corpus.settings import settings

MARK = ".similarity-demo"
"""A file that says that a folder is the demonstration's, to be made anew when it runs again."""

_OWN = ("train", "home", "page.html", MARK)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demonstration does: `studies` phantoms of cohort `seed` are learnt from and indexed; queries and
    evaluation come from cohort `seed + 1`. All of it is written into `out`."""

    out: Path
    studies: int = 700
    seed: int = 7
    epochs: int = 16

    def __post_init__(self) -> None:
        if self.studies < 60:
            raise UsageError(f"a demonstration needs at least 60 studies to learn from, not {self.studies}")
        if self.seed < 0 or self.epochs < 1:
            raise UsageError("a seed is 0 or more, epochs are 1 or more")


def prepare(out: Path) -> None:
    """Make the folder, or clear what an earlier demonstration left in it.

    Raises:
        UsageError: it is a file, or holds something else.
    """
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file: name a folder with --out")
        if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
            raise UsageError(f"{out} is not empty and not a demonstration's: name another folder with --out")
        for name in _OWN:
            made = out / name
            if made.is_dir():
                shutil.rmtree(made)
            else:
                made.unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error


@contextmanager
def own_home(home: Path) -> Iterator[None]:
    """Keep to a home of the demonstration's own and to the embedded stores, whatever the user has set."""
    names = (
        "SIMILARITY_HOME",
        "SIMILARITY_DATABASE_URL",
        "SIMILARITY_QDRANT_URL",
        "SIMILARITY_QDRANT_API_KEY",
    )
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ["SIMILARITY_HOME"] = str(home.absolute())
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        settings.cache_clear()
