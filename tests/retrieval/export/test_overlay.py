"""The overlay shows image, outline, scale and words, and says that it is not for diagnosis."""

import errno
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError
from retrieval.export import drawing
from retrieval.export.drawing import NOTICE, png
from retrieval.export.files import write_whole
from retrieval.export.overlay import draw_overlay
from retrieval.localize.answer import Localization
from tests.retrieval.export.dicom_images import block, localized

IMAGE = np.linspace(0, 1, 640 * 640, dtype=np.float32).reshape(640, 640)
MASK = np.zeros((640, 640), np.bool_)
MASK[200:300, 100:250] = True


def texts(
    monkeypatch: pytest.MonkeyPatch, found: Localization, image: np.ndarray = IMAGE, **options: Any
) -> str:
    """The texts drawn into the overlay, in order."""
    written: list[str] = []
    real = drawing.ImageDraw.ImageDraw.text

    def record(self: object, at: object, text: str, **how: object) -> None:
        written.append(text)
        real(self, at, text, **how)

    with monkeypatch.context() as patched:
        patched.setattr(drawing.ImageDraw.ImageDraw, "text", record)
        draw_overlay(image, found, **options)
    return "\n".join(written)


def coloured(overlay: np.ndarray) -> np.ndarray:
    return np.ptp(overlay[:640].astype(int), axis=2) > 0


def test_the_image_is_grey_and_unchanged_except_for_the_outline_around_the_mask() -> None:
    drawn = draw_overlay(IMAGE, localized(MASK))
    outline = coloured(drawn)
    rows, columns = np.nonzero(outline)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (198, 301, 98, 251)
    assert not outline[MASK].any()
    apart = np.ones_like(MASK)
    apart[190:310, 90:260] = False
    assert (drawn[:640][apart] == np.rint(IMAGE * 255).astype(np.uint8)[apart][:, None]).all()


def test_without_a_mask_nothing_is_outlined_and_the_reason_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = texts(monkeypatch, localized(None, heat=np.zeros_like(IMAGE)))
    assert "the map answers equally to any phrase" in written
    assert not coloured(draw_overlay(IMAGE, localized(None, heat=np.zeros_like(IMAGE)))).any()


def test_phrase_location_and_notice_are_in_the_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch, localized(MASK, words="right lower zone, 12 % of the right lung"))
    assert "“right consolidation”" in written
    assert "right lower zone, 12 % of the right lung" in written
    assert NOTICE in written
    assert "not for diagnosis" in NOTICE.lower()


@pytest.mark.parametrize(
    ("spacing", "label", "length"),
    [
        (None, "200 pixels of the image", 200),
        (Spacing(0.5, 0.25), "50 mm", 200),
        (Spacing(0.5, 0.5, at_detector=True), "100 mm at the detector", 200),
    ],
)
def test_the_scale_bar_is_as_long_as_its_label(
    spacing: Spacing | None, label: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert label in texts(monkeypatch, localized(MASK), spacing=spacing)
    band = draw_overlay(IMAGE, localized(MASK), spacing=spacing)[640:].max(axis=2) > 200
    longest = max(int(np.diff(np.flatnonzero(np.diff(np.pad(row, 1)))).max(initial=0)) for row in band)
    assert longest == pytest.approx(length + 1, abs=1)


@pytest.mark.parametrize("shape", [(16, 16), (3000, 40), (40, 5000), (16, 2500)])
def test_an_image_of_any_shape_gives_an_overlay_of_bounded_size_with_room_for_words(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    found = localized(np.ones(shape, np.bool_), "x" * 10_000)
    drawn = draw_overlay(image, found, heat=True)
    assert drawn.shape[1] <= 2_048
    assert 640 <= max(drawn.shape[:2]) <= 2_048 + 300
    assert NOTICE in texts(monkeypatch, found, image)


def test_the_heat_colours_only_where_the_map_is_warm() -> None:
    drawn = draw_overlay(IMAGE, localized(MASK), heat=True)
    assert coloured(drawn)[210:290, 110:240].all()
    assert not coloured(drawn)[400:].any()


def test_a_localization_of_another_image_is_refused() -> None:
    with pytest.raises(ExportError, match="of another image"):
        draw_overlay(IMAGE[:600], localized(MASK))


def test_a_mask_survives_its_png() -> None:
    mask = block(3, 4)
    assert ((np.asarray(Image.open(io.BytesIO(png(mask)))) == 255) == mask).all()


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "new" / "overlay.png", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("corpus.files.os.fsync", full)
    with pytest.raises(ExportError, match="No space left"):
        write_whole(path, b"newer")
    assert [p.name for p in path.parent.iterdir()] == ["overlay.png"]
    assert path.read_bytes() == b"old"
