"""How alike are two items by their findings? The targets of semantic training, from statuses of four kinds.

MedCLIP's reference maps uncertain and missing to nothing and so knows no negatives; here an absent finding
speaks against a present one, and an uncertain one for it by a half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses, is_normal

Kind = Literal["dot", "cosine", "shared"]
KINDS: tuple[Kind, ...] = ("dot", "cosine", "shared")

Of = Literal["findings", "concepts", "embedding"]
OFS: tuple[Of, ...] = ("findings", "concepts", "embedding")

_LEAF = np.array([name in VOCABULARY.leaves for name in VOCABULARY.names])
_NORMAL = VOCABULARY.names.index(NO_FINDING)
_SHARE_FLOOR = 0.02  # a finding that nobody has does not weigh without bound
_VARIANCE_FLOOR = 0.05  # nor does one that few have stand out without bound


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """How statuses become numbers, and numbers a likeness.

    `of`: what items are compared by: their `findings`; `concepts`, findings with place and degree; or an
    `embedding` of their words (`trainer.data.target_vectors`).
    `kind`: `dot` (MedCLIP's code), `cosine` (its paper), `shared` (shared over either finding, what nDCG
    gains by). `present`, `uncertain`, `absent`: value of each status; unmentioned is 0. `normal`: weight of
    being normal beside one finding. `parents`: weight of a finding above leaves, which makes likeness
    graded: two opacities of different kinds are a little alike. `place`: weight of a concept's side, zone and
    degree beside its finding. `rarity`: how much more a rare finding
    weighs; one that a share p of the items has weighs (p + 0.02)^−rarity. `contrast`: how much what sets an
    abnormal picture apart from other abnormal ones weighs beside what it shows (`contrasted`).
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
    """Turn the statuses of n items into vectors.

    A normal item has every leaf finding absent that it does not mention: that is what normal means.

    Returns:
        (n, F) float32, one column a finding of `VOCABULARY.names`; a row of zeros has nothing mentioned.
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
    """What each finding weighs by how rare it is, the mean share of both sides that has it.

    Args:
        left: (n, F) finding vectors.
        right: (m, F) finding vectors.
        rarity: the exponent; 0 weighs all alike.

    Returns:
        (F,) float32, to multiply finding vectors with.
    """
    share = ((left > 0).mean(axis=0) + (right > 0).mean(axis=0)) / 2
    return np.asarray((share + _SHARE_FLOOR) ** -rarity, np.float32)


def contrasted(
    vectors: NDArray[np.float32], drawn: NDArray[np.int64], contrast: float
) -> NDArray[np.float32]:
    """Add to each abnormal item how it departs from the abnormal item in general, in standard deviations.

    Where one finding is on nearly every abnormal picture, expected likeness is highest to whatever has that
    finding, and the others are never told apart; a departure from the mean speaks of all findings alike.

    Args:
        vectors: (n, F) finding vectors, as `finding_vectors` makes them.
        drawn: the items as training draws them, repeats included: mean and deviation are theirs.
        contrast: weight of the departure beside the vector itself; 0 leaves the vectors as they are.

    Returns:
        (n, F) float32. Normal items, and the column of being normal, stay as they are.
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
    """Likeness of every left item to every right one.

    Args:
        left: (n, F) finding vectors.
        right: (m, F) finding vectors.
        kind: `dot`; `cosine`, in [−1, 1]; or `shared`, in [−1, 1]: what both have over what either has,
            less what one has and the other denies.

    Returns:
        (n, m) float32. An item with nothing mentioned is 0 to all: neither like nor unlike (cosine's 0/0).
    """
    if kind == "dot":
        return np.asarray(left @ right.T, np.float32)
    if kind == "cosine":
        return np.asarray(_unit(left) @ _unit(right).T, np.float32)
    return _shared(left, right)


def shown(pictures: Sequence[Statuses], texts: Sequence[Statuses]) -> NDArray[np.float32]:
    """Whether n pictures show what m texts affirm.

    Returns:
        (n, m) float32: 1 where every leaf finding that the text calls present is present on the picture; 0
        where none of them is present or uncertain there, and the picture's findings are known; NaN where
        neither can be said, and for texts that affirm none.
    """
    affirmed, on_film, possible = (
        np.array([[status in wanted for status in _leaf_statuses(item)] for item in items], np.float32)
        for items, wanted in (
            (texts, (Status.PRESENT,)),
            (pictures, (Status.PRESENT,)),
            (pictures, (Status.PRESENT, Status.UNCERTAIN)),
        )
    )
    count = affirmed.sum(axis=1)
    told = np.full((len(pictures), len(texts)), np.nan, np.float32)
    told[(possible @ affirmed.T == 0) & np.array([bool(item) for item in pictures])[:, None]] = 0
    told[on_film @ affirmed.T == count] = 1
    told[:, count == 0] = np.nan
    return told


def _leaf_statuses(item: Statuses) -> list[Status | None]:
    return [item.get(name) for name in VOCABULARY.leaves]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return units


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
