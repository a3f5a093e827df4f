"""Normal images of an annotated set: on them a localizer must return no mask.

For evaluation only, as the annotations. ChestX-ray14 has rows with the label "No Finding", a mask folder may
list images of the class `normal` in `images.csv`, and one phantom in three has no lesion.
"""

from dataclasses import dataclass
from pathlib import Path

from corpus.annotations import AnnotationSet, BoxTable, MaskFolder, PhantomAnnotations
from corpus.errors import CorpusError
from corpus.phantom import scene
from corpus.records import Problem, ProblemSink, Sex, View
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


def normal_images(
    annotations: AnnotationSet, on_problem: ProblemSink = lambda problem: None
) -> list[NormalImage]:
    """Return the normal images beside the annotated ones, in the order of the set; empty where it has none.

    Args:
        annotations: the set.
        on_problem: receives listed normal images without a file, and why the table of a mask folder is not
            used: it may be another table of that name.
    """
    if isinstance(annotations, BoxTable):
        return _of_boxes(annotations)
    if isinstance(annotations, MaskFolder):
        return _of_folder(annotations, on_problem)
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


def _of_folder(annotations: MaskFolder, on_problem: ProblemSink) -> list[NormalImage]:
    file = annotations.folder / CLASSES
    if not file.is_file():
        return []
    try:
        table = read_table(file, required=("image", "class"))
    except CorpusError as error:
        reason = f"{error}; no image of this set is taken for normal"
        on_problem(Problem(f"{annotations.folder.name}:{CLASSES}", "noted", reason, str(file)))
        return []
    found: dict[str, NormalImage] = {}
    for row in table.frame.iter_rows(named=True):
        name = cell(row["image"])
        if not name or cell(row["class"]).lower() != NORMAL or name in annotations.rows or name in found:
            continue
        subject = cell(row.get("subject_id")) or f"{annotations.folder.name}:{name}"
        found[name] = NormalImage(name, subject, str(annotations.folder / "images" / name))
    for name, image in list(found.items()):
        if not Path(image.location).is_file():
            on_problem(Problem(name, "missing", "the table lists it, the folder lacks it", image.location))
            del found[name]
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
