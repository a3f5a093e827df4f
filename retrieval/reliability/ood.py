"""Whether a picture is of the kind that the index holds: a chest search must refuse a cat, and say so.

What is judged is what the encoder's image trunk sees: its feature map averaged over the picture, before the
projection, which was trained to tell findings apart and forgets everything else. The index's own pictures
make a cloud of such points. A picture's distance from it is its Mahalanobis distance over the cloud's main
directions and what lies off them, in equal parts (after Lee et al., NeurIPS 2018). Half of the index's
people make the cloud; the other half's distances set the limit, so that of new pictures of the same kind
about `REFUSED_IN_ERROR` are refused (split-conformal).

Film and inverted film are the same picture to a radiologist: the nearer of the two counts. Nothing but the
index teaches the gate, so that an index of breast ultrasound refuses a chest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from indexer.index import Index

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

Pixels = NDArray[np.float32]
Numbers = NDArray[np.float64]

REFUSED_IN_ERROR = 0.004
"""Share of pictures of the index's own kind that are refused. More than one in fifty would not be borne, and
other kinds lie so far off (`benchmarks.gate`) that nothing is lost by erring on this side."""
FEWEST_PEOPLE = 100
"""Fewer people than this make no gate: half of them set a limit that one in fifty of the others passes."""
MOST_PICTURES = 800
"""Pictures that teach at most: each is read and goes through the trunk twice."""
REFUSAL = (
    "this picture is unlike every picture of the index: by what the encoder sees in it, it is not of the "
    "kind that is held here, and nothing can be found for it."
)
_DIRECTIONS = 48  # of the cloud, at most a third of the pictures that make it


@dataclass(frozen=True, slots=True)
class Gate:
    """What lets pictures of an index's own kind through.

    `mean` (d,), `directions` (q, d) unit rows and `spread` (q,), the variances along them, describe the
    cloud; `rest` is the mean squared distance off the directions. `limit`: the largest distance that
    passes. `people`: how many taught it.
    """

    mean: Numbers
    directions: Numbers
    spread: Numbers
    rest: float
    limit: float
    people: int

    def distance(self, points: Numbers) -> Numbers:
        """How far (n, d) points lie from the cloud, (n,); about 1 for one of its own."""
        centred = points - self.mean
        along = centred @ self.directions.T
        off = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        inside = (along**2 / self.spread).mean(axis=1)
        return np.asarray((inside + off / self.rest) / 2)

    def refuses(self, encoder: "Encoder", pixels: Pixels) -> bool:
        """Whether a picture is of another kind than those of the index.

        Args:
            encoder: the index's.
            pixels: (height, width) float32 grey in [0, 1].
        """
        film = _unit(encoder.encode_trunk([pixels]))
        if self.distance(film)[0] <= self.limit:
            return False
        inverted = _unit(encoder.encode_trunk([np.float32(1.0) - pixels]))
        return bool(self.distance(inverted)[0] > self.limit)

    def as_json(self) -> dict[str, Any]:
        """As the catalog keeps it."""
        return {
            "mean": _short(self.mean),
            "directions": _short(self.directions),
            "spread": _short(self.spread),
            "rest": self.rest,
            "limit": self.limit,
            "people": self.people,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Gate":
        """Read what `as_json` wrote."""
        mean, directions, spread = (np.array(told[name]) for name in ("mean", "directions", "spread"))
        return cls(mean, directions, spread, told["rest"], told["limit"], told["people"])


def look(encoder: "Encoder", pictures: Sequence[Pixels]) -> tuple[Numbers, Numbers]:
    """What the trunk sees in pictures as they are, and inverted: (n, d) unit rows each."""
    turned = [np.float32(1.0) - picture for picture in pictures]
    return _unit(encoder.encode_trunk(pictures)), _unit(encoder.encode_trunk(turned))


def fit_gate(film: Numbers, inverted: Numbers, people: Sequence[str]) -> Gate | None:
    """Learn what pictures of this kind look like; None from fewer than `FEWEST_PEOPLE`.

    Args:
        film: (n, d) points of the index's pictures, in an order without meaning (`look`).
        inverted: of the same, inverted.
        people: whose each is; nobody's pictures make the cloud and set the limit as well.
    """
    order = {person: place for place, person in enumerate(dict.fromkeys(people))}
    if len(order) < FEWEST_PEOPLE:
        return None
    makes = np.array([order[person] % 2 == 0 for person in people])
    mean, directions, spread, rest = _cloud(film[makes])
    unlimited = Gate(mean, directions, spread, rest, np.inf, len(order))
    distances = np.minimum(unlimited.distance(film[~makes]), unlimited.distance(inverted[~makes]))
    place = min(ceil((len(distances) + 1) * (1 - REFUSED_IN_ERROR)), len(distances))
    return Gate(mean, directions, spread, rest, float(np.sort(distances)[place - 1]), len(order))


def load_gate(index: Index) -> Gate | None:
    """The gate of the active version; None where it was not calibrated."""
    return index.calibrations.read(index.active_version.fingerprint, "gate", Gate.from_json)


def _cloud(points: Numbers) -> tuple[Numbers, Numbers, Numbers, float]:
    """Mean, main directions, variances along them, and the mean squared distance off them."""
    mean = points.mean(axis=0)
    _, lengths, rows = np.linalg.svd(points - mean, full_matrices=False)
    count = min(_DIRECTIONS, len(points) // 3)
    spread = lengths**2 / len(points)
    # A trunk of few channels may leave nothing off the directions.
    floor = 1e-6 * float(spread.sum()) + 1e-12
    return mean, rows[:count], np.maximum(spread[:count], floor), max(float(spread[count:].sum()), floor)


def _unit(rows: NDArray[np.float32]) -> Numbers:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))


def _short(numbers: Numbers) -> Any:
    """Numbers to six significant digits, as nested lists."""
    if numbers.ndim == 1:
        return [float(f"{number:.6g}") for number in numbers]
    return [_short(row) for row in numbers]
