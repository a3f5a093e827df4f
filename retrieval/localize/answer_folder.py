"""Answers as files: mask, overlay and map of each phrase, and DICOM objects where the image is DICOM."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.errors import ExportError
from retrieval.export.drawing import png
from retrieval.export.files import write_whole
from retrieval.export.formats import FILES, forms, render
from retrieval.export.overlay import draw_pairs
from retrieval.export.source import SourceImage, read_source
from retrieval.localize.answer import Localization
from retrieval.localize.correspondence import Correspondence

_LONGEST_NAME = 60


def write_answers(
    out: Path,
    image: NDArray[np.float32],
    location: str,
    answers: Sequence[Localization],
    fingerprint: str,
) -> list[dict[str, str]]:
    """Write a folder for each answer: `mask.png` (where there is one), `overlay.png`, `heat.npy` (float16).

    Beside a mask on a DICOM image also `seg.dcm` (DICOM SEG) and `overlay.dcm` (Secondary Capture). Each file
    is written whole or not at all.

    Args:
        out: the parent of the answers' folders.
        image: (height, width) float32 in [0, 1].
        location: of the image.
        answers: about this image.
        fingerprint: of the encoder.

    Returns:
        Of each answer, kind of file → path.

    Raises:
        ExportError: the disk refuses them.
    """
    source = _dicom(location)
    written = []
    for folder, answer in zip(_folders(out, answers), answers, strict=True):
        available = forms(masked=answer.mask is not None, dicom=source is not None)
        for form in FILES.keys() - available:
            (folder / FILES[form]).unlink(missing_ok=True)  # of an earlier answer to this phrase
        files: dict[str, tuple[str, bytes]] = {"heat": ("heat.npy", npy(answer.heat))}
        for form in available:
            files[form] = FILES[form], render(form, image, answer, source, fingerprint)
        written.append(
            {kind: str(write_whole(folder / name, content)) for kind, (name, content) in files.items()}
        )
    return written


def write_correspondence(
    out: Path, query: NDArray[np.float32], hit: NDArray[np.float32], found: Correspondence
) -> dict[str, str]:
    """Write both images side by side with their maps and numbered boxes, and the maps.

    Returns:
        Kind of file → path.

    Raises:
        ExportError: the disk refuses them.
    """
    files = {"overlay": out / "likeness.png", "query": out / "query.npy", "hit": out / "hit.npy"}
    write_whole(files["overlay"], png(draw_pairs(query, hit, found)))
    for kind, heat in (("query", found.query), ("hit", found.hit)):
        write_whole(files[kind], npy(heat))
    return {kind: str(path) for kind, path in files.items()}


def _dicom(location: str) -> SourceImage | None:
    try:
        return read_source(location)
    except ExportError:
        return None


def npy(heat: NDArray[np.float32]) -> bytes:
    """A map as the content of a float16 .npy file."""
    written = io.BytesIO()
    np.save(written, heat.astype(np.float16))
    return written.getvalue()


def _folders(out: Path, answers: Sequence[Localization]) -> list[Path]:
    """A folder for each answer, named by its phrase; the second of the same name has a number."""
    names: list[str] = []
    for answer in answers:
        plain = re.sub(r"[^a-z0-9]+", "-", answer.phrase.lower()).strip("-")[:_LONGEST_NAME] or "finding"
        number = 1
        name = plain
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return [out / name for name in names]
