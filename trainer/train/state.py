"""The folder of a run: its lock, its configuration, its checkpoints, its curves.

config.toml            the resolved configuration
steps.csv, metrics.csv loss by step; validation scores by epoch
curves.png             plots of both
problems.jsonl         unreadable items with the reason
checkpoints/last.pt    everything that an exact resume needs
checkpoints/best.pt    weights of the best epoch
encoder/               the exported encoder
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from corpus.errors import EncoderError, TrainingError
from corpus.files import READABLE, acquire_lock, write_whole
from corpus.records import Problem
from trainer.models.weights import read_saved
from trainer.train.config import TrainConfig
from trainer.train.config_file import differing, read_config, write_toml

CONFIG = "config.toml"
LAST = "checkpoints/last.pt"
BEST = "checkpoints/best.pt"
STEPS = "steps.csv"
METRICS = "metrics.csv"
CURVES = "curves.png"
PROBLEMS = "problems.jsonl"
ENCODER = "encoder"

_SCORES = {"precision_at_1": "P@1", "ndcg_at_10": "nDCG@10", "lift_at_5": "macro lift@5"}


class RunFolder:
    """One run's folder, owned by this process while `open_run` is entered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache = path / "cache"

    @property
    def encoder(self) -> Path:
        """The folder of the exported encoder."""
        return self.path / ENCODER

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write a checkpoint atomically: a crash or a full disk leaves the one before.

        Raises:
            TrainingError: it cannot be written, for example because the disk is full.
        """
        path = self.path / name
        try:
            write_whole(path, lambda file: torch.save(dict(state), file), mode=READABLE)
        except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
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
        """Add an unreadable item to `problems.jsonl`."""
        line = json.dumps({"item_id": problem.item_id, "state": problem.state, "reason": problem.reason})
        with (self.path / PROBLEMS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def add_rows(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append rows to a CSV, with a header if it is new."""
        path = self.path / name
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(columns)
            writer.writerows(rows)

    def forget_after(self, name: str, column: str, last: int) -> None:
        """Drop the rows of a CSV with a `column` above `last`: a resumed run writes them again."""
        path = self.path / name
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[column]]
        column_index = header.index(column)
        remaining = [row for row in rows if len(row) == len(header) and int(row[column_index]) <= last]
        text = "".join(",".join(row) + "\n" for row in (header, *remaining))
        write_whole(path, text.encode(), mode=READABLE)


@contextmanager
def owned(out: Path) -> Iterator[Path]:
    """Lock a run's folder for this process, and create it if needed; yield its absolute path.

    Raises:
        TrainingError: another process trains there, or the folder cannot be written.
    """
    out = out.expanduser().resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(out / ".lock")
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
    """Open a run's folder, new or to resume.

    Raises:
        TrainingError: another process trains there, it already holds a run, there is nothing to resume, the
            configuration differs from the run's, or the folder cannot be written.
    """
    with owned(out) as out:
        folder = RunFolder(out)
        _check_history(folder, config, resume)
        folder.cache.mkdir(exist_ok=True)
        if not resume:
            write_whole(out / CONFIG, write_toml(config).encode(), mode=READABLE)
        yield folder


def _check_history(folder: RunFolder, config: TrainConfig, resume: bool) -> None:
    begun = (folder.path / LAST).is_file() or folder.encoder.is_dir()
    if begun and not resume:
        raise TrainingError(f"{folder.path} holds a run already; go on with --resume or name another --out")
    if not resume:
        for name in (STEPS, METRICS, CURVES, PROBLEMS):
            (folder.path / name).unlink(missing_ok=True)
        return
    (folder.path / PROBLEMS).unlink(missing_ok=True)  # the images are read again
    if not (folder.path / LAST).is_file():
        raise TrainingError(f"{folder.path} has no checkpoint to resume from; run without --resume")
    changed = differing(read_config(folder.path / CONFIG), config)
    if changed:
        raise TrainingError(
            f"the run in {folder.path} was begun with other settings ({', '.join(changed)}); resume with "
            f"its own {CONFIG}, or name another --out"
        )


def draw_curves(steps: Path, metrics: Path, figure_file: Path) -> None:
    """Plot the curves of a run so far: loss by step, validation scores by epoch.

    Args:
        steps: CSV with a row per step: `step`, `loss`.
        metrics: CSV with a row per epoch: `step`, the mean loss and the scores, empty where not measured.
        figure_file: the PNG to write, atomically.

    Raises:
        OSError: the figure cannot be written.
    """
    from matplotlib.figure import Figure

    taken, scored = _rows(steps), _rows(metrics)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot([int(r["step"]) for r in taken], [float(r["loss"]) for r in taken], color="0.75", lw=0.8)
    losses.plot([int(r["step"]) for r in scored], [float(r["loss"]) for r in scored], "o-", ms=3)
    losses.set(title="loss by step; dots: mean of an epoch", xlabel="step")
    for column, name in _SCORES.items():
        points = [(int(row["epoch"]), float(row[column])) for row in scored if row[column]]
        if points:
            scores.plot(*zip(*points, strict=True), "o-", ms=3, label=name)
    scores.set(title="subjects held out for tuning", xlabel="epoch")
    if scores.lines:
        scores.legend(frameon=False)
    for axes in (losses, scores):
        axes.spines[["top", "right"]].set_visible(False)
    write_whole(figure_file, lambda file: figure.savefig(file, format="png", dpi=110), mode=READABLE)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))
