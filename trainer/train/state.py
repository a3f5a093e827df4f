"""The folder of a run: its lock, its configuration, its checkpoints, its curves.

config.toml            the resolved configuration
steps.csv, metrics.csv loss by step; monitored scores by epoch
curves.png             both, drawn
problems.jsonl         items that could not be read, with the reason
checkpoints/last.pt    everything that an exact resume needs
checkpoints/best.pt    weights of the best epoch
encoder/               what was exported
"""

import csv
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from corpus.errors import EncoderError, TrainingError
from corpus.locks import take
from corpus.records import Problem
from trainer.models.weights import read_saved
from trainer.runtime.encoder_folder import write_text_atomic
from trainer.train.config import TrainConfig, differing, read_config, write_toml

logger = logging.getLogger(__name__)

CONFIG = "config.toml"
LAST = "checkpoints/last.pt"
BEST = "checkpoints/best.pt"
STEPS = "steps.csv"
METRICS = "metrics.csv"
CURVES = "curves.png"
PROBLEMS = "problems.jsonl"
ENCODER = "encoder"


class RunFolder:
    """One run's folder, owned by this process while `open_run` is entered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache = path / "cache"

    @property
    def encoder(self) -> Path:
        """Where the encoder is exported to."""
        return self.path / ENCODER

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write a checkpoint at once: a crash or a full disk leaves the one before.

        Raises:
            TrainingError: the disk does not take it.
        """
        path = self.path / name
        temporary = path.with_suffix(".writing")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"the checkpoint {path} cannot be written: {error}; free some space and run with --resume"
            ) from error

    def load(self, name: str) -> dict[str, Any]:
        """Read a checkpoint; code in it is never run.

        Raises:
            TrainingError: it is missing or damaged.
        """
        try:
            state: dict[str, Any] = read_saved(self.path / name)
        except EncoderError as error:
            raise TrainingError(
                f"the run's checkpoint cannot be read: {error}; put a whole copy there, or train anew in "
                f"another --out"
            ) from error
        return state

    def note_problem(self, problem: Problem) -> None:
        """Add an item that could not be read to `problems.jsonl`."""
        line = json.dumps({"item_id": problem.item_id, "state": problem.state, "reason": problem.reason})
        with (self.path / PROBLEMS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def add_rows(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append rows to a CSV, with its header when it is new."""
        path = self.path / name
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(columns)
            writer.writerows(rows)

    def forget_after(self, name: str, column: str, last: int) -> None:
        """Drop the rows of a CSV whose `column` is above `last`: a resumed run writes them again."""
        path = self.path / name
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[column]]
        place = header.index(column)
        kept = [row for row in rows if len(row) == len(header) and int(row[place]) <= last]
        write_text_atomic(path, "".join(",".join(row) + "\n" for row in (header, *kept)))


@contextmanager
def owned(out: Path) -> Iterator[Path]:
    """Own a run's folder, alone among all processes; it is made if need be. Gives its absolute path.

    Raises:
        TrainingError: another process trains there, or the folder cannot be written.
    """
    out = out.expanduser().resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = take(out / ".lock")
    except OSError as error:
        raise TrainingError(f"the run folder {out} cannot be written: {error}") from error
    if lock is None:
        raise TrainingError(f"another process trains in {out}; wait for it or name another --out")
    try:
        yield out
    finally:
        lock.release()


@contextmanager
def open_run(out: Path, config: TrainConfig, *, resume: bool) -> Iterator[RunFolder]:
    """Take a run's folder: a new one, or one to go on with.

    Raises:
        TrainingError: another process trains there, it holds a run already, there is nothing to resume,
            the configuration differs from the run's, or the folder cannot be written.
    """
    with owned(out) as out:
        folder = RunFolder(out)
        _check_history(folder, config, resume)
        folder.cache.mkdir(exist_ok=True)
        if not resume:
            write_text_atomic(out / CONFIG, write_toml(config))
        yield folder


def _check_history(folder: RunFolder, config: TrainConfig, resume: bool) -> None:
    begun = (folder.path / LAST).is_file() or folder.encoder.is_dir()
    if begun and not resume:
        raise TrainingError(f"{folder.path} holds a run already; go on with --resume or name another --out")
    if not resume:
        for name in (STEPS, METRICS, CURVES, PROBLEMS):
            (folder.path / name).unlink(missing_ok=True)
        return
    (folder.path / PROBLEMS).unlink(missing_ok=True)  # the pictures are read anew
    if not (folder.path / LAST).is_file():
        raise TrainingError(f"{folder.path} has no checkpoint to resume from; run without --resume")
    changed = differing(read_config(folder.path / CONFIG), config)
    if changed:
        raise TrainingError(
            f"the run in {folder.path} was begun with other settings ({', '.join(changed)}); resume with "
            f"its own {CONFIG}, or name another --out"
        )
