"""Target similarity of items from their findings, for semantic training.

MedCLIP's reference maps uncertain and missing findings to 0 and so has no negatives. Here an absent finding
counts against a present one, and an uncertain one counts half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses, is_normal
from corpus.statistics import unit_rows

Kind = Literal["dot", "cosine", "shared"]
KINDS: tuple[Kind, ...] = ("dot", "cosine", "shared")

Of = Literal["findings", "concepts", "embedding"]
OFS: tuple[Of, ...] = ("findings", "concepts", "embedding")

_LEAF = np.array([name in VOCABULARY.leaves for name in VOCABULARY.names])
_NORMAL = VOCABULARY.names.index(NO_FINDING)
_SHARE_FLOOR = 0.02  # bounds the weight of a finding that no item has
_VARIANCE_FLOOR = 0.05  # bounds the departure of a finding that few items have


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """From statuses to target vectors, and from vectors to target similarity.

    `of`: what is compared: `findings`; `concepts`, findings with laterality, zone and severity; or an
    `embedding` of words (`trainer.data.target_vectors`).
    `kind`: `dot` (MedCLIP's code), `cosine` (its paper), `shared` (shared over either finding, the gain of
    nDCG).
    `present`, `uncertain`, `absent`: value of each status; unmentioned is 0.
    `normal`: weight of normality relative to one finding.
    `parents`: weight of a finding above the leaves; above 0 similarity is graded: two different opacities are
    somewhat similar.
    `place`: weight of a concept's laterality, zone and severity relative to its finding.
    `rarity`: exponent of the weight of rare findings: a finding of a share p of the items weighs
    (p + 0.02)^−rarity.
    `contrast`: weight of an abnormal image's departure from the mean abnormal image (`contrasted`).
    """

    of: Of = "findings"
    kind: Kind = "cosine"
    present: float = 1.0
    uncertain: float = 0.5
    absent: float = -0.5
    normal: float = 1.0
    parents: float = 0.5
    place: float = 0.5
    rarity: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TrainingError(f"unknown kind of target {self.kind!r}; known are {', '.join(KINDS)}")
        if self.of not in OFS:
            raise TrainingError(f"targets cannot be of {self.of!r}; known are {', '.join(OFS)}")
        if self.present <= 0 or self.absent > 0:
            raise TrainingError("a present finding must weigh more than 0 and an absent one at most 0")
        for name, weight in (("rarity", self.rarity), ("contrast", self.contrast)):
            if weight < 0:
                raise TrainingError(f"targets.{name} must be at least 0, not {weight}")


def finding_vectors(statuses: Sequence[Statuses], config: TargetConfig | None = None) -> NDArray[np.float32]:
    """Finding vectors of n items from their statuses.

    In a normal item every unmentioned leaf finding counts as absent.

    Returns:
        (n, F) float32, one column per finding of `VOCABULARY.names`; zeros where nothing is mentioned.
    """
    config = config or TargetConfig()
    value = {
        Status.PRESENT: config.present,
        Status.UNCERTAIN: config.uncertain,
        Status.ABSENT: config.absent,
    }
    vectors = np.zeros((len(statuses), len(VOCABULARY.names)), np.float32)
    for row, item in zip(vectors, statuses, strict=True):
        if is_normal(item):
            row[_LEAF] = config.absent
        for column, name in enumerate(VOCABULARY.names):
            status = item.get(name)
            if status in value:
                row[column] = value[status]
    weights = np.where(_LEAF, 1.0, config.parents).astype(np.float32)
    weights[_NORMAL] = config.normal
    vectors *= weights
    return vectors


def rarity_weights(
    left: NDArray[np.float32], right: NDArray[np.float32], rarity: float
) -> NDArray[np.float32]:
    """The weight of each finding by its rarity: its share of the items, the mean of both sides.

    Args:
        left: (n, F) finding vectors.
        right: (m, F) finding vectors.
        rarity: the exponent; 0 weighs all equally.

    Returns:
        (F,) float32 factors of the columns of finding vectors.
    """
    share = ((left > 0).mean(axis=0) + (right > 0).mean(axis=0)) / 2
    return np.asarray((share + _SHARE_FLOOR) ** -rarity, np.float32)


def contrasted(
    vectors: NDArray[np.float32], drawn: NDArray[np.int64], contrast: float
) -> NDArray[np.float32]:
    """Add to each abnormal item its departure from the mean abnormal item, in standard deviations.

    Where nearly every abnormal image has one finding, that finding dominates the similarity and the others
    are not distinguished; in the departure from the mean all findings count equally.

    Args:
        vectors: (n, F) finding vectors, as `finding_vectors` makes them.
        drawn: indices of items as training draws them, with repeats; they give mean and deviation.
        contrast: weight of the departure relative to the vector itself; 0 changes nothing.

    Returns:
        (n, F) float32. Normal items and the column of normality are unchanged.
    """
    normal = vectors[:, _NORMAL] > 0
    abnormal = vectors[drawn[~normal[drawn]]]
    if not contrast or not len(abnormal):
        return vectors
    departure = (vectors - abnormal.mean(axis=0)) / np.sqrt(abnormal.var(axis=0) + _VARIANCE_FLOOR)
    departure[normal] = 0
    departure[:, _NORMAL] = 0
    return np.asarray(vectors + contrast * departure, np.float32)


def label_similarity(
    left: NDArray[np.float32], right: NDArray[np.float32], kind: Kind = "cosine"
) -> NDArray[np.float32]:
    """The target similarity of every left item to every right one.

    Args:
        left: (n, F) finding vectors.
        right: (m, F) finding vectors.
        kind: `dot`; `cosine`, in [−1, 1]; or `shared`, in [−1, 1]: the findings of both over those of either,
            less the findings of one that the other denies.

    Returns:
        (n, m) float32. An item with nothing mentioned has similarity 0 to all (cosine's 0/0).
    """
    if kind == "dot":
        return np.asarray(left @ right.T, np.float32)
    if kind == "cosine":
        return np.asarray(unit_rows(left) @ unit_rows(right).T, np.float32)
    return _shared(left, right)


def shown(image_statuses: Sequence[Statuses], text_statuses: Sequence[Statuses]) -> NDArray[np.float32]:
    """Whether n images show the findings that m texts affirm.

    Returns:
        (n, m) float32: 1 where every present leaf finding of the text is present on the image; 0 where none
        of them is present or uncertain there, and the image's findings are known; NaN where neither holds,
        and for texts that affirm none.
    """
    affirmed, on_image, possible = (
        np.array([[status in wanted for status in _leaf_statuses(item)] for item in items], np.float32)
        for items, wanted in (
            (text_statuses, (Status.PRESENT,)),
            (image_statuses, (Status.PRESENT,)),
            (image_statuses, (Status.PRESENT, Status.UNCERTAIN)),
        )
    )
    count = affirmed.sum(axis=1)
    shows = np.full((len(image_statuses), len(text_statuses)), np.nan, np.float32)
    shows[(possible @ affirmed.T == 0) & np.array([bool(item) for item in image_statuses])[:, None]] = 0
    shows[on_image @ affirmed.T == count] = 1
    shows[:, count == 0] = np.nan
    return shows


def _leaf_statuses(item: Statuses) -> list[Status | None]:
    return [item.get(name) for name in VOCABULARY.leaves]


def _shared(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    has_left, has_right = np.maximum(left, 0), np.maximum(right, 0)
    denies_left, denies_right = np.maximum(-left, 0), np.maximum(-right, 0)
    both = np.zeros((len(left), len(right)), np.float32)
    either = np.zeros_like(both)
    for column in range(left.shape[1]):
        both += np.minimum.outer(has_left[:, column], has_right[:, column])
        either += np.maximum.outer(has_left[:, column], has_right[:, column])
    against = has_left @ denies_right.T + denies_left @ has_right.T
    shared = np.divide(both - against, either, out=np.zeros_like(both), where=either > 0)
    return np.asarray(np.clip(shared, -1, 1), np.float32)
