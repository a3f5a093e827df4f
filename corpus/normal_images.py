"""Normal images of an annotated set: on them a localizer must return no mask.

For evaluation only, as the annotations. ChestX-ray14 has rows with the label "No Finding", a mask folder may
list images of the class `normal` in `images.csv`, and one phantom in three has no lesion.
"""

from dataclasses import dataclass

from corpus.annotations import AnnotationSet, BoxTable, MaskFolder, PhantomAnnotations
from corpus.phantom import scene
from corpus.records import Sex, View
from corpus.redaction import redacted
from corpus.sources.common import cell
from corpus.tables.reader import read_table

CLASSES = "images.csv"
"""Of a mask folder: `image`, `class`, and `subject_id` where a subject has several images."""
NORMAL = "normal"


@redacted
@dataclass(frozen=True, slots=True)
class NormalImage:
    """One image without a finding, not yet read.

    `name`: of the image file, without a folder.
    `subject_id`: the subject, as sources name it.
    `location`: what `corpus.images.reader.read_image` reads.
    `view`, `sex`: None where the set does not say.
    """

    name: str
    subject_id: str
    location: str
    view: View | None = None
    sex: Sex | None = None


def normal_images(annotations: AnnotationSet) -> list[NormalImage]:
    """Return the normal images beside the annotated ones, in the order of the set; empty where it has none.

    Raises:
        CorpusError: `images.csv` of a mask folder cannot be read, or lacks a column.
    """
    if isinstance(annotations, BoxTable):
        return _of_boxes(annotations)
    if isinstance(annotations, MaskFolder):
        return _of_folder(annotations)
    if isinstance(annotations, PhantomAnnotations):
        return _of_phantoms(annotations)
    return []


def _of_boxes(annotations: BoxTable) -> list[NormalImage]:
    """Images with the label "No Finding" and a file; an image with a box is none of them."""
    return [
        NormalImage(name, entry.subject_id, str(annotations.paths[name]), entry.view, entry.sex)
        for name, entry in annotations.entries.items()
        if entry.is_normal and name in annotations.paths and name not in annotations.boxes
    ]


def _of_folder(annotations: MaskFolder) -> list[NormalImage]:
    file = annotations.folder / CLASSES
    if not file.is_file():
        return []
    table = read_table(file, required=("image", "class"))
    found: dict[str, NormalImage] = {}
    for row in table.frame.iter_rows(named=True):
        name = cell(row["image"])
        if name and cell(row["class"]).lower() == NORMAL and name not in annotations.rows:
            subject = cell(row.get("subject_id")) or f"{annotations.folder.name}:{name}"
            found.setdefault(name, NormalImage(name, subject, str(annotations.folder / "images" / name)))
    return list(found.values())


def _of_phantoms(annotations: PhantomAnnotations) -> list[NormalImage]:
    scenes = (scene(annotations.seed, number) for number in range(annotations.count))
    return [
        NormalImage(
            f"phantom:{drawn.seed}-{drawn.number}",
            drawn.subject_id,
            f"phantom://{drawn.seed}/{drawn.number}",
            drawn.view,
            drawn.sex,
        )
        for drawn in scenes
        if not drawn.lesions
    ]
