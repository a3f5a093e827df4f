"""What an answer can promise: "at least 6 of these 10 share the main finding (90 %)".

Split-conformal prediction (Vovk, Gammerman and Shafer 2005; Papadopoulos et al. 2002) over people. Films of
the index whose findings are known are searched for as if they were new, one film a person. On half of the
people a line is fitted that predicts how many hits share the film's main finding, from how much the hits
agree among themselves; on the other half it is measured how far such a prediction must be lowered to be
kept nine times in ten. The next person's film is exchangeable with those, so the lowered prediction holds
for it as often, whatever the encoder is worth. Where even that promises not one hit, the answer says that
there is nothing like this here.

Groups (Mondrian): answers whose hits agree on one finding are calibrated apart from those that agree on
another, where enough people are in both halves; a promise then holds for each such group, and not only on
average.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses, is_normal
from indexer.index import Index

LEVEL = 0.9
"""How often a promise is kept."""
FEWEST_PEOPLE = 200
"""Fewer people than this make no promise: where to speak is chosen on half of them, and with fewer a lucky
half promises what the next people do not keep."""
FEWEST_IN_GROUP = 50
"""People in each half from which on a group is calibrated by itself, and to whom a promise must have been
made.
"""
MOST_HITS = 50
"""Answers of up to so many hits carry a promise."""
_DAMPING = 1.0  # of the line's weights
_REST = "rest"


Marks = frozenset[str]
"""What a study can share with another: its present findings, or that it is normal."""

_LEAVES = frozenset(VOCABULARY.leaves)


@dataclass(frozen=True, slots=True)
class Searched:
    """What a film has to share (`marks`), and what each of its hits has, best first."""

    own: Marks
    hits: Sequence[Marks]


@dataclass(frozen=True, slots=True)
class Line:
    """The promise of one length of answer and one group of answers.

    `weights`: (constant, agreement, second agreement) predict how many share the main finding. A prediction
    below `least` promises nothing; `lowered` is taken off the others. `people`: how many set it.
    """

    weights: tuple[float, float, float]
    least: float
    lowered: float
    people: int

    def as_json(self) -> list[float]:
        """Its numbers in a row."""
        return [*self.weights, self.least, self.lowered, self.people]

    @classmethod
    def from_json(cls, row: Sequence[float]) -> "Line":
        """Read what `as_json` wrote."""
        return cls((row[0], row[1], row[2]), row[3], row[4], int(row[5]))


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Target (images, reports, cases) → number of hits → group → its line, None where it promises nothing.

    `people`: how many taught it.
    """

    lines: Mapping[str, Mapping[int, Mapping[str, Line | None]]]
    people: int

    def as_json(self) -> dict[str, Any]:
        """As the catalog keeps it."""
        return {
            "people": self.people,
            "lines": {
                target: {
                    str(k): {
                        group: None if line is None else line.as_json() for group, line in groups.items()
                    }
                    for k, groups in of.items()
                }
                for target, of in self.lines.items()
            },
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Guarantee":
        """Read what `as_json` wrote."""
        return cls(
            {
                target: {
                    int(k): {
                        group: None if row is None else Line.from_json(row) for group, row in groups.items()
                    }
                    for k, groups in of.items()
                }
                for target, of in told["lines"].items()
            },
            told["people"],
        )

    def promised(self, target: str, hits: Sequence[Statuses]) -> int | None:
        """How many of these hits are promised to share the main finding; 0 for none, None where nothing is
        known.

        Args:
            target: images, reports or cases.
            hits: the findings of every hit of the answer, best first.
        """
        return self.promised_marks(target, [marks(hit) for hit in hits])

    def promised_marks(self, target: str, hits: Sequence[Marks]) -> int | None:
        """As `promised`, from what each hit has to share."""
        lines = self.lines.get(target, {}).get(len(hits))
        if not lines:
            return None
        group, features = look(hits)
        return promise(lines[group] if group in lines else lines[_REST], features, len(hits))


def load_guarantee(index: Index) -> Guarantee | None:
    """What answers of the active version can promise; None where it was not calibrated."""
    return index.calibrations.read(index.active_version.fingerprint, "guarantee", Guarantee.from_json)


def shared(own: Marks, hits: Sequence[Marks]) -> int:
    """How many hits share a film's main finding: of its present findings, the one that most hits have.

    A normal film's is that it is normal. 0 where nothing is known of the film.
    """
    return max(Counter(mark for hit in hits for mark in hit & own).values(), default=0)


def marks(statuses: Statuses) -> Marks:
    """What a study can share: its present leaf findings, or `no_finding`; empty where nothing is known."""
    found = frozenset(n for n, s in statuses.items() if s is Status.PRESENT and n in _LEAVES)
    return found if found or not is_normal(statuses) else frozenset({NO_FINDING})


def calibrate(
    searched: Mapping[str, Sequence[Searched]], lengths: Iterable[int] = range(1, MOST_HITS + 1)
) -> Guarantee | None:
    """Learn what answers can promise; None from fewer than `FEWEST_PEOPLE`.

    Args:
        searched: target → one film of each person, in an order without meaning, with up to `MOST_HITS` hits.
        lengths: numbers of hits that are to carry a promise.
    """
    people = max((len(films) for films in searched.values()), default=0)
    if people < FEWEST_PEOPLE:
        return None
    lengths = tuple(lengths)
    lines = {
        target: {k: of for k in lengths if (of := _lines([film for film in films if len(film.hits) >= k], k))}
        for target, films in searched.items()
    }
    return Guarantee(lines, people)


def promise(line: Line | None, features: NDArray[np.float64], k: int) -> int:
    """The number of hits that a line promises, 0 for none."""
    if line is None:
        return 0
    predicted = float(features @ np.array(line.weights))
    if predicted < line.least:
        return 0
    return int(np.clip(ceil(predicted - line.lowered), 0, k))


def _lines(films: Sequence[Searched], k: int) -> dict[str, Line | None]:
    """The lines of answers with k hits: one for each large group, one for the rest."""
    if len(films) < FEWEST_PEOPLE:
        return {}
    looked = [look(film.hits[:k]) for film in films]
    groups = np.array([group for group, _ in looked])
    features = np.stack([row for _, row in looked])
    count = np.array([shared(film.own, film.hits[:k]) for film in films], dtype=np.float64)
    teaches = np.arange(len(films)) % 2 == 0
    large = {
        str(group)
        for group in set(groups)
        if min((teaches & (groups == group)).sum(), (~teaches & (groups == group)).sum()) >= FEWEST_IN_GROUP
    }
    lines: dict[str, Line | None] = {}
    for group in (*sorted(large), _REST):
        mine = ~np.isin(groups, sorted(large)) if group == _REST else groups == group
        lines[group] = _line(features, count, mine & teaches, mine & ~teaches)
    return lines


def _line(
    features: NDArray[np.float64],
    count: NDArray[np.float64],
    teach: NDArray[np.bool_],
    measure: NDArray[np.bool_],
) -> Line | None:
    """Fit on one half where to speak and what to predict; measure on the other how far to lower it."""
    if min(teach.sum(), measure.sum()) < FEWEST_IN_GROUP:
        return None
    x, y = features[teach], count[teach]
    weights = np.linalg.solve(x.T @ x + _DAMPING * np.eye(x.shape[1]), x.T @ y)
    predicted, error = x @ weights, x @ weights - y
    least = next(
        (
            float(bar)
            for bar in np.unique(predicted)
            if (predicted >= bar).sum() >= FEWEST_IN_GROUP
            and (lowered := _conformal(error[predicted >= bar])) is not None
            and bar - lowered > 0
        ),
        None,
    )
    if least is None:
        return None
    measured = features[measure] @ weights
    while True:
        speaks = measured >= least
        lowered = _conformal((measured - count[measure])[speaks])
        if lowered is None or speaks.sum() < FEWEST_IN_GROUP:
            return None
        if lowered < least:
            a, b, c = map(float, weights)
            return Line((a, b, c), least, lowered, int(speaks.sum()))
        # Some that would speak would promise nothing: the level is to hold for those that do promise.
        least = max(float(measured[measured > least].min(initial=np.inf)), lowered)


def _conformal(errors: NDArray[np.float64]) -> float | None:
    """The ⌈(n + 1)·LEVEL⌉-th smallest error; None where there are too few for it to exist."""
    place = ceil((len(errors) + 1) * LEVEL)
    return None if place > len(errors) else float(np.sort(errors)[place - 1])


def look(hits: Sequence[Marks]) -> tuple[str, NDArray[np.float64]]:
    """What the hits agree on most, and the numbers that a line predicts from: 1, and the two largest counts.

    Earlier hits count more by a hair, so that hardly two answers are equal: the promise is kept nine times in
    ten, and not more often because equal predictions move together.
    """
    places = np.linspace(1.05, 0.95, len(hits))
    counts: dict[str, float] = {}
    for place, hit in zip(places, hits, strict=True):
        for mark in hit:
            counts[mark] = counts.get(mark, 0.0) + float(place)
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])) or [(_REST, 0.0)]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    return ranked[0][0], np.array([1.0, ranked[0][1], second])
