"""The phantom source: `COUNT` drawn studies, one frontal image and one report each."""

from collections.abc import Iterator
from dataclasses import dataclass

from corpus.errors import UsageError
from corpus.phantom import Scene, describe, scene
from corpus.records import ImageRef, ItemId, ProblemSink, Study


@dataclass(frozen=True, slots=True)
class PhantomSource:
    """Studies 0 to `count` − 1 of the cohort `seed`, byte-identical whenever they are read.

    One image in three is normal; pneumothorax, pleural effusion, consolidation, nodule and cardiomegaly are
    each on 20 % of images (see `corpus.phantom.scene`). Every seventh study is a subject's second.

    Raises:
        UsageError: `count` is below 1 or `seed` below 0.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise UsageError(f"phantom:{self.count}@{self.seed}: the count is 1 or more, the seed 0 or more")

    @property
    def name(self) -> str:
        """The kind of source."""
        return "phantom"

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study in order; drawing never fails."""
        for number in range(self.count):
            yield study_of(scene(self.seed, number))


def study_of(drawn: Scene) -> Study:
    """Return the study of a scene; the image is drawn when `phantom://SEED/NUMBER` is read."""
    frontal = ImageRef(
        item_id=ItemId.image(drawn.study_id, "frontal").text,
        location=f"phantom://{drawn.seed}/{drawn.number}",
        view=drawn.view,
        modality="DX",
    )
    return Study(
        study_id=drawn.study_id,
        subject_id=drawn.subject_id,
        source="phantom",
        images=(frontal,),
        report=describe(drawn),
        findings=drawn.statuses,
        age=float(drawn.age),
        sex=drawn.sex,
        date=drawn.date,
    )
