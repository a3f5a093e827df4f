"""What a demonstration does, and where: a folder and a home of its own, apart from the user's."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import UsageError
from corpus.settings import settings

MARK = ".similarity-demo"
"""A file that marks a folder as a demonstration's; a later demonstration may clear it."""

SUMMARY = "summary.json"
"""The page's figures for scripts: the evaluation's records, the seconds of each step, and for each search
whether the first hit shares a finding with the query."""

_OWN = ("train", "home", "page.html", SUMMARY, MARK)


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a demonstration, and the cohorts of phantoms it uses; no two cohorts share a subject.

    `out`: folder for everything that is written. `studies`: phantoms that the encoder trains on. `seed`: of
    the training cohort; the next three seeds are those of the other cohorts. `epochs`: of training.
    """

    out: Path
    studies: int = 1400
    seed: int = 7
    epochs: int = 8

    def __post_init__(self) -> None:
        if self.studies < 60:
            raise UsageError(f"a demonstration needs at least 60 studies to learn from, not {self.studies}")
        if self.seed < 0 or self.epochs < 1:
            raise UsageError("a seed is 0 or more, epochs are 1 or more")

    @property
    def held_out_seed(self) -> int:
        """The cohort of the queries and of the evaluation."""
        return self.seed + 1

    @property
    def archive_seed(self) -> int:
        """The cohort that is indexed."""
        return self.seed + 2

    @property
    def calibration_seed(self) -> int:
        """The cohort that the localization is calibrated on."""
        return self.seed + 3

    @property
    def held_out(self) -> int:
        """Studies that the encoder is evaluated on."""
        return max(50, self.studies // 4)

    @property
    def archive(self) -> int:
        """Studies that are indexed."""
        return max(60, 2 * self.studies // 7)

    @property
    def calibration(self) -> int:
        """Radiographs that the localization is calibrated on."""
        return max(40, self.studies // 14)


def prepare(out: Path) -> None:
    """Make the folder, or clear what an earlier demonstration left in it.

    Raises:
        UsageError: it is a file, or contains something else.
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
    """Use a home of the demonstration's own and the embedded stores, whatever the user's settings are."""
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
