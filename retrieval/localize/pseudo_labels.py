"""Pseudo-labels: a corpus localized into a folder of (image, mask, confidence) that a segmenter learns from.

`masks.csv` has a line per image and finding, written once its mask is on the disk, so that an interrupted run
resumes. A finding without a mask has a line without one, and the confidence that it is absent.
`localization.json` records encoder and method; a folder holds pseudo-labels of one of each.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus.errors import ExportError, NotAdmitted, UnreadableImage, UsageError
from corpus.images.reader import load_image
from corpus.progress import OnProgress, silent
from corpus.records import ImageRef, Problem, Study
from corpus.redaction import redacted
from retrieval.export.drawing import png
from retrieval.export.files import write_whole
from retrieval.localize.answer import Localization
from retrieval.localize.localizer import LocalizePhrases

TABLE, RECORD, MASKS = "masks.csv", "localization.json", "masks"
COLUMNS = ("image", "mask", "structure", "confidence")


@redacted
@dataclass
class PseudoLabelRun:
    """The counts of a run over a corpus.

    `images`: localized by this run.
    `found`, `refused`: findings with and without a mask.
    `skipped`: findings that earlier runs answered.
    `problems`: images that could not be read.
    """

    images: int = 0
    found: int = 0
    refused: int = 0
    skipped: int = 0
    problems: list[Problem] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The form of `docs/contracts/localize-corpus.schema.json`, without the folder."""
        return {
            "pictures": self.images,
            "found": self.found,
            "refused": self.refused,
            "skipped": self.skipped,
            "problems": [{"item_id": one.item_id, "reason": one.reason} for one in self.problems],
        }


def localize_corpus(
    studies: Iterable[Study],
    findings: Sequence[str],
    localizer: LocalizePhrases,
    out: Path,
    made_by: Mapping[str, str],
    *,
    on_progress: OnProgress = silent,
) -> PseudoLabelRun:
    """Localize findings in every image of a corpus and write the pseudo-labels.

    Args:
        studies: the corpus.
        findings: phrases, each the `structure` of its lines.
        localizer: answers them for one image.
        out: the folder; one begun earlier is resumed.
        made_by: what determines an answer (encoder, method, refiner); one per folder.
        on_progress: called after each image with the images and masks so far.

    Raises:
        UsageError: the folder is of another encoder or method, or holds something else.
        ExportError: the disk refuses it.
    """
    done = _open_folder(out, made_by)
    result = PseudoLabelRun()
    for study in studies:
        for image in study.images:
            wanted = [finding for finding in findings if (image.location, finding) not in done]
            result.skipped += len(findings) - len(wanted)
            if not wanted:
                continue
            try:
                read = load_image(image.location)
                answers = localizer(read.pixels, wanted, spacing=read.spacing)
            except (UnreadableImage, NotAdmitted) as refused:
                result.problems.append(Problem(image.item_id, "failed", str(refused), image.location))
                continue
            _append(out, [_row(out, image, answer) for answer in answers])
            result.images += 1
            result.found += sum(answer.mask is not None for answer in answers)
            result.refused += sum(answer.mask is None for answer in answers)
            on_progress("localizing", result.images, None, f"{result.found} masks")
    return result


def _row(out: Path, image: ImageRef, answer: Localization) -> tuple[str, str, str, str]:
    confidence = answer.specificity if answer.mask is not None else 1 - answer.specificity
    if answer.mask is None:
        return image.location, "", answer.phrase, f"{confidence:.4f}"
    # The name identifies no patient: ids of some sources contain the patient's number.
    digest = hashlib.sha256(f"{image.location}\0{answer.phrase}".encode()).hexdigest()[:24]
    mask = write_whole(out / MASKS / f"{digest}.png", png(answer.mask))
    return image.location, f"{MASKS}/{mask.name}", answer.phrase, f"{confidence:.4f}"


def _open_folder(out: Path, made_by: Mapping[str, str]) -> set[tuple[str, str]]:
    """Create the folder or check an existing one; the (image, finding) pairs that it answers already."""
    table, record = out / TABLE, out / RECORD
    if table.exists():
        try:
            recorded = json.loads(record.read_text("utf-8"))
        except (OSError, ValueError):
            recorded = None
        if recorded != dict(made_by):
            raise UsageError(
                f"{out} holds masks by another encoder, method or refiner than these: name another --out"
            )
        return _read_done(table)
    write_whole(record, json.dumps(dict(made_by), indent=2).encode())
    write_whole(table, (",".join(COLUMNS) + "\n").encode())
    return set()


def _read_done(table: Path) -> set[tuple[str, str]]:
    """The (image, finding) pairs of a table; a partial last line, left by a crash, is removed."""
    content = table.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_whole(table, whole)
    lines = csv.DictReader(whole.decode("utf-8").splitlines())
    return {(line["image"], line["structure"]) for line in lines}


def _append(out: Path, rows: Sequence[Sequence[str]]) -> None:
    try:
        with (out / TABLE).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ExportError(f"{out / TABLE} cannot be written: {error.strerror or error}") from error
