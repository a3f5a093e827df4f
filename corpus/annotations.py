"""Annotated images, the ground truth of localization: images with masks or boxes, and phantoms.

For evaluation only, never for training. An image is read when it is iterated over; what cannot be used is
reported and left out.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.demographics import parse_sex, parse_view
from corpus.errors import CorpusError, UnreadableImage, UsageError
from corpus.files import quoted
from corpus.images.reader import read_image
from corpus.phantom import Scene, masks, render, scene
from corpus.records import Problem, ProblemSink, Sex, View
from corpus.redaction import redacted
from corpus.sources.common import ListedFiles, cell, parsed, report_bad_rows
from corpus.sources.nih_chestxray14 import NAME as NIH
from corpus.sources.nih_chestxray14 import TABLES as NIH_TABLES
from corpus.sources.nih_chestxray14 import Entry, read_entries
from corpus.tables.reader import read_table

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]

TABLE = "masks.csv"
BOX_FRAME = 1024
"""Pixels along each side of the originals to which the NIH boxes refer."""

_BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
_FEW_BOXES = 3  # so many boxes may all lie in the upper left of their originals by chance
_PHANTOM = re.compile(r"phantom:(\d{1,9})(?:@(\d{1,9}))?")


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One image and the mask of each annotated structure.

    `name`: of the image file, without a folder.
    `subject_id`: the subject, as sources name it.
    `image`: (height, width) float32 in [0, 1].
    `structures`: the structure's name in the annotations → (height, width) bool, none empty.
    `view`, `sex`: None where the set does not say.
    """

    name: str
    subject_id: str
    image: Pixels
    structures: Mapping[str, Mask]
    view: View | None = None
    sex: Sex | None = None


class AnnotationSet(Protocol):
    """A set of annotated images that can be read again and again, in the same order."""

    @property
    def kind(self) -> str:
        """`masks`, `boxes`, `phantom` or `counterfactual`."""
        ...

    def __len__(self) -> int:
        """The number of listed images, readable or not."""
        ...

    def read(self, on_problem: ProblemSink) -> Iterator[AnnotatedImage]:
        """Yield every image with its annotations; report what cannot be used to `on_problem` and continue."""
        ...


@redacted
@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Images and hand-drawn masks: `masks.csv` (image, mask, structure), `images/` and `masks/`.

    `rows`: image → structure → its mask files, several where it was drawn in parts.
    `subjects`: image → subject, from the column `subject_id`; without it every image is a subject of its own.
    `views`, `sexes`: image → view and sex, from the columns `view` and `sex` where the table has them.
    """

    folder: Path
    rows: Mapping[str, Mapping[str, Sequence[str]]]
    subjects: Mapping[str, str] = field(default_factory=dict)
    kind: str = "masks"
    views: Mapping[str, View | None] = field(default_factory=dict)
    sexes: Mapping[str, Sex | None] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> "MaskFolder":
        """Read the table of a folder.

        Raises:
            CorpusError: there is no table, it lacks a column, or no row is complete.
        """
        if not (folder / TABLE).is_file():
            raise CorpusError(
                f"{folder.name!r} has no {TABLE} (image, mask, structure): is it a mask folder?"
            )
        table = read_table(folder / TABLE, required=("image", "mask", "structure"))
        rows: dict[str, dict[str, list[str]]] = {}
        subjects: dict[str, str] = {}
        views: dict[str, View | None] = {}
        sexes: dict[str, Sex | None] = {}
        for row in table.frame.iter_rows(named=True):
            image, mask, structure = (cell(row[name]) for name in ("image", "mask", "structure"))
            if image and mask and structure:
                rows.setdefault(image, {}).setdefault(structure, []).append(mask)
                subjects[image] = cell(row.get("subject_id")) or f"{folder.name}:{image}"
                views[image] = parse_view(cell(row.get("view")))
                sexes[image] = parsed(parse_sex, cell(row.get("sex")), image, lambda problem: None)
        if not rows:
            raise CorpusError(f"{TABLE} of {folder.name!r} names no image with a mask and a structure")
        return cls(folder, rows, subjects, views=views, sexes=sexes)

    def __len__(self) -> int:
        """The number of listed images."""
        return len(self.rows)

    def read(self, on_problem: ProblemSink) -> Iterator[AnnotatedImage]:
        """As `AnnotationSet.read`."""
        for name, parts in self.rows.items():
            image = _read_annotated(self.folder / "images" / name, name, on_problem)
            if image is None:
                continue
            structures = {}
            for structure, files in parts.items():
                mask = self._mask(files, image.shape, f"{name}#{structure}", on_problem)
                if mask is not None:
                    structures[structure] = mask
            if structures:
                yield AnnotatedImage(
                    name, self.subjects[name], image, structures, self.views.get(name), self.sexes.get(name)
                )

    def _mask(
        self, files: Sequence[str], shape: tuple[int, ...], item: str, on_problem: ProblemSink
    ) -> Mask | None:
        """Return one structure's mask, the union of its parts; None (reported) if a part is unusable."""
        united = np.zeros(shape, np.bool_)
        for file in files:
            drawn = _read_annotated(self.folder / "masks" / file, item, on_problem)
            if drawn is None:
                return None
            if drawn.shape != shape:
                sizes = " and ".join(f"{height} x {width}" for height, width in (drawn.shape, shape))
                reason = f"mask and image have {sizes} pixels: they must have the same size"
                on_problem(Problem(item, "failed", reason))
                return None
            united |= drawn > drawn.max() / 2
        return united


@redacted
@dataclass(frozen=True, slots=True)
class BoxTable:
    """The NIH boxes: a table of corners and sizes in pixels of the 1024 px originals, and the images.

    `boxes`: image → (label, x, y, w, h) each. For an image of reduced size they are scaled from the
    original's.
    `paths`: image → file. The subject is the number that begins an image's name, as in `Data_Entry`'s Patient
    ID.
    `entries`: image → view, sex and normality, from the set's table `Data_Entry_2017*.csv`; empty where it is
    neither beside the boxes nor among the images nor above them, or cannot be read.
    """

    boxes: Mapping[str, Sequence[tuple[str, float, float, float, float]]]
    paths: Mapping[str, Path]
    kind: str = "boxes"
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, table_file: Path, images: Path, on_problem: ProblemSink) -> "BoxTable":
        """Read the table and find the images.

        Raises:
            CorpusError: the table cannot be read, lacks a column, has no readable box, or its boxes refer to
                another pixel frame.
        """
        if not images.is_dir():
            raise CorpusError(f"--images {images.name!r} is no folder of images")
        table = read_table(table_file, required=_BOX_COLUMNS, wanted=_BOX_COLUMNS)
        report_bad_rows(table, "boxes", on_problem)
        boxes: defaultdict[str, list[tuple[str, float, float, float, float]]] = defaultdict(list)
        for number, row in enumerate(table.frame.iter_rows(named=True), 1):
            read = _read_box(row)
            if isinstance(read, str):
                on_problem(Problem(f"boxes:row{number}", "failed", f"row {number} {read}"))
                continue
            if max(read[1] + read[3], read[2] + read[4]) > BOX_FRAME + 0.5:
                raise CorpusError(
                    f"row {number} of {quoted(table_file)} reaches beyond {BOX_FRAME} px, the size of the "
                    f"originals: the boxes are in another pixel frame; scale them to {BOX_FRAME}"
                )
            boxes[cell(row["Image Index"])].append(read)
        if not boxes:
            raise CorpusError(f"{quoted(table_file)} holds no box that can be read")
        paths = ListedFiles.below(images).paths
        entries = _entries((table_file.parent, images, images.parent), {*boxes, *paths}, on_problem)
        return cls(dict(boxes), paths, entries=entries)

    def __len__(self) -> int:
        """The number of listed images."""
        return len(self.boxes)

    def read(self, on_problem: ProblemSink) -> Iterator[AnnotatedImage]:
        """As `AnnotationSet.read`.

        Raises:
            CorpusError: the boxes refer to pixels of the reduced images, not of the originals.
        """
        self._require_frame()
        for name, drawn in self.boxes.items():
            path = self.paths.get(name)
            if path is None:
                on_problem(Problem(name, "missing", "the table lists it, the folder lacks it"))
                continue
            image = _read_annotated(path, name, on_problem)
            if image is None:
                continue
            structures: dict[str, Mask] = {}
            for label, *box in drawn:
                mask = box_mask(box, image.shape)
                structures[label] = structures[label] | mask if label in structures else mask
            subject = name.partition("_")[0].lstrip("0") or "0"
            entry = self.entries.get(name)
            view, sex = (None, None) if entry is None else (entry.view, entry.sex)
            yield AnnotatedImage(name, f"{NIH}:{subject}", image, structures, view, sex)

    def _require_frame(self) -> None:
        """Refuse boxes that all end within a reduced image: they refer to its own pixels."""
        reach = max(max(x + w, y + h) for drawn in self.boxes.values() for _, x, y, w, h in drawn)
        count = sum(len(drawn) for drawn in self.boxes.values())
        first = next((self.paths[name] for name in self.boxes if name in self.paths), None)
        if count <= _FEW_BOXES or first is None:
            return
        side = max(read_image(first).shape)
        if side < BOX_FRAME and reach <= side:
            raise CorpusError(
                f"all {count} boxes end within {side} px, the images' own size, not the {BOX_FRAME} px of "
                f"the originals: the boxes are in another pixel frame; scale them to {BOX_FRAME}"
            )


def box_mask(box: Sequence[float], shape: tuple[int, ...]) -> Mask:
    """Return the pixels with their centre in a box (x, y, w, h), in pixels of the original; at least one.

    Args:
        box: upper left corner and size.
        shape: (height, width) of the image; its longer side is `BOX_FRAME` px of the original.
    """
    scale = max(shape) / BOX_FRAME
    x, y, w, h = (value * scale for value in box)
    mask = np.zeros(shape, np.bool_)
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    mask[np.ix_((rows >= y) & (rows < y + h), (columns >= x) & (columns < x + w))] = True
    if not mask.any():
        row, column = (
            min(int(middle), n - 1) for middle, n in zip((y + h / 2, x + w / 2), shape, strict=True)
        )
        mask[row, column] = True
    return mask


@dataclass(frozen=True, slots=True)
class PhantomAnnotations:
    """The first `count` phantoms of the cohort `seed`, with the lesions that their reports call present."""

    count: int
    seed: int = 0
    kind: str = "phantom"

    def __len__(self) -> int:
        """The number of phantoms."""
        return self.count

    def read(self, on_problem: ProblemSink) -> Iterator[AnnotatedImage]:
        """As `AnnotationSet.read`; phantoms without a certain lesion are passed over."""
        for number in range(self.count):
            drawn = scene(self.seed, number)
            structures = sure_masks(drawn)
            if structures:
                name = f"phantom:{self.seed}-{number}"
                yield AnnotatedImage(name, drawn.subject_id, render(drawn), structures, drawn.view, drawn.sex)


def sure_masks(drawn: Scene) -> dict[str, Mask]:
    """Return the visible masks of the findings that the report of a scene calls present."""
    sure = {lesion.finding for lesion in drawn.lesions if not lesion.faint}
    return {finding: mask for finding, mask in masks(drawn).items() if finding in sure and mask.any()}


def open_annotations(
    masks_spec: str | None, boxes: Path | None, images: Path | None, on_problem: ProblemSink
) -> AnnotationSet:
    """Open what `--masks`, or `--boxes` with `--images`, names.

    Raises:
        UsageError: both or neither is given, or `--boxes` without `--images`.
        CorpusError: the folder or table does not exist, or has another layout.
    """
    if (masks_spec is None) == (boxes is None):
        raise UsageError(
            "give the ground truth as --masks DIR, --masks phantom:COUNT@SEED, or --boxes CSV --images DIR"
        )
    if boxes is not None:
        if images is None:
            raise UsageError("--boxes needs the folder of the images: --images DIR")
        return BoxTable.open(boxes, images, on_problem)
    if images is not None:
        raise UsageError("--images goes with --boxes; a mask folder has its own images")
    assert masks_spec is not None
    if masks_spec.startswith("phantom:"):
        match = _PHANTOM.fullmatch(masks_spec)
        if match is None or int(match[1]) < 1:
            raise UsageError(f"{masks_spec!r} is no phantom: write phantom:COUNT or phantom:COUNT@SEED")
        return PhantomAnnotations(int(match[1]), int(match[2] or 0))
    folder = Path(masks_spec).expanduser()
    if not folder.is_dir():
        raise CorpusError(
            f"--masks {folder.name!r} is no folder; it wants one with {TABLE}, images and masks"
        )
    return MaskFolder.open(folder)


def _entries(folders: Sequence[Path], used: Collection[str], on_problem: ProblemSink) -> Mapping[str, Entry]:
    """Return the entries of the set's table in the first folder that has one, with problems of used images.

    A table that cannot be read is noted and not used: boxes can be measured without views, sexes and normal
    images.
    """
    folder = next((folder for folder in folders if any(folder.glob(NIH_TABLES))), None)
    if folder is None:
        return {}
    stems = {Path(name).stem for name in used}

    def of_used(problem: Problem) -> None:
        if problem.item_id.removeprefix(f"{NIH}:").partition("#")[0] in stems:
            on_problem(problem)

    try:
        return read_entries(folder, of_used)
    except CorpusError as error:
        reason = f"{error}; views, sexes and normal images are not known"
        on_problem(Problem(f"{NIH}:{NIH_TABLES}", "noted", reason))
        return {}


def _read_box(row: Mapping[str, Any]) -> tuple[str, float, float, float, float] | str:
    """Return a row's label and box, or why it has none, as a clause after the row's number."""
    label = cell(row["Finding Label"])
    if not cell(row["Image Index"]) or not label:
        return "names no image or no finding"
    try:
        x, y, w, h = (float(cell(row[name])) for name in _BOX_COLUMNS[2:])
    except ValueError:
        return "has a corner or size that is no number"
    if not (min(x, y) >= 0 and w > 0 and h > 0 and np.isfinite([x, y, w, h]).all()):
        return "has a box without size, or outside the image"
    return label, x, y, w, h


def _read_annotated(path: Path, item: str, on_problem: ProblemSink) -> Pixels | None:
    try:
        return read_image(path)
    except UnreadableImage as error:
        on_problem(Problem(item, "failed" if path.exists() else "missing", str(error)))
        return None
