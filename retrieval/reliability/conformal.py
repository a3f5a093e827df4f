"""The conformal guarantee of an answer: "at least 6 of these 10 share the main finding (90 %)".

Split-conformal prediction (Vovk, Gammerman and Shafer 2005; Papadopoulos et al. 2002) over subjects. Images
of the index with known findings are searched for as if they were new, one image per subject. On half of the
subjects a linear model is fitted that predicts how many hits share the image's main finding, from how much
the hits agree among themselves. On the other half it is measured how far such a prediction must be lowered to
hold nine times in ten. The image of the next subject is exchangeable with those, so the lowered prediction
holds for it as often, whatever the encoder is worth. Where even that promises not one hit, the answer
abstains: it says that there is nothing like this here.

Groups (Mondrian): answers with hits that agree on one finding are calibrated apart from those that agree on
another, where enough subjects are in both halves; a promise then holds for each such group, and not only on
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
FEWEST_SUBJECTS = 200
"""Fewer subjects make no promise: the threshold from which on one is made is chosen on half of them, and with
fewer a lucky half promises what does not hold for the next subjects."""
FEWEST_IN_GROUP = 50
"""Subjects in each half from which on a group is calibrated by itself, and to whom a promise must have been
made.
"""
MOST_HITS = 50
"""Answers of up to so many hits carry a promise."""
_DAMPING = 1.0  # ridge penalty of the linear model
_REST = "rest"  # the group of all answers that have none of their own

Findings = frozenset[str]
"""What a study can share with another: its present leaf findings, or that it is normal."""

_LEAVES = frozenset(VOCABULARY.leaves)


@dataclass(frozen=True, slots=True)
class LabelledSearch:
    """A search with an image of known findings.

    Attributes:
        own: the findings of the image.
        hits: the findings of each hit, best first.
    """

    own: Findings
    hits: Sequence[Findings]


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A conformal lower bound on the hits that share the main finding, for one length and group of answers.

    Attributes:
        weights: (constant, agreement, second agreement) of the linear model that predicts the number.
        threshold: a smaller prediction promises nothing.
        margin: what is subtracted from any other prediction.
        subjects: number of subjects that it was measured on.
    """

    weights: tuple[float, float, float]
    threshold: float
    margin: float
    subjects: int

    def apply(self, features: NDArray[np.float64], k: int) -> int:
        """Return the number of hits that are promised, 0 for none.

        Args:
            features: (3,) of `prediction_features`.
            k: number of hits.
        """
        predicted = float(features @ np.array(self.weights))
        if predicted < self.threshold:
            return 0
        return int(np.clip(ceil(predicted - self.margin), 0, k))

    def as_json(self) -> list[float]:
        """Its numbers in a row."""
        return [*self.weights, self.threshold, self.margin, self.subjects]

    @classmethod
    def from_json(cls, row: Sequence[float]) -> "LowerBound":
        """Read what `as_json` wrote."""
        return cls((row[0], row[1], row[2]), row[3], row[4], int(row[5]))


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The conformal guarantee of an index.

    Attributes:
        bounds: target (images, reports, cases) → number of hits → group → its bound, None where nothing can
            be promised.
        subjects: number of subjects that it was fitted on.
    """

    bounds: Mapping[str, Mapping[int, Mapping[str, LowerBound | None]]]
    subjects: int

    def as_json(self) -> dict[str, Any]:
        """The form that the catalog stores."""
        return {
            "people": self.subjects,
            "lines": {
                target: {
                    str(k): {
                        group: None if bound is None else bound.as_json() for group, bound in groups.items()
                    }
                    for k, groups in by_length.items()
                }
                for target, by_length in self.bounds.items()
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Guarantee":
        """Read what `as_json` wrote."""
        return cls(
            {
                target: {
                    int(k): {
                        group: None if row is None else LowerBound.from_json(row)
                        for group, row in groups.items()
                    }
                    for k, groups in by_length.items()
                }
                for target, by_length in stored["lines"].items()
            },
            stored["people"],
        )

    def promised(self, target: str, hits: Sequence[Statuses]) -> int | None:
        """Return how many of these hits are promised to share the main finding.

        Args:
            target: images, reports or cases.
            hits: the statuses of every hit of the answer, best first.

        Returns:
            0 where none is promised; None where the guarantee does not cover such an answer.
        """
        return self.promised_for(target, [leaf_findings(hit) for hit in hits])

    def promised_for(self, target: str, hits: Sequence[Findings]) -> int | None:
        """As `promised`, from the findings of each hit."""
        bounds = self.bounds.get(target, {}).get(len(hits))
        if not bounds:
            return None
        group, features = prediction_features(hits)
        bound = bounds[group] if group in bounds else bounds[_REST]
        return 0 if bound is None else bound.apply(features, len(hits))


def load_guarantee(index: Index) -> Guarantee | None:
    """Return the guarantee of the active version; None where it was not calibrated."""
    return index.calibrations.read(index.active_version.fingerprint, "guarantee", Guarantee.from_json)


def leaf_findings(statuses: Statuses) -> Findings:
    """Return the present leaf findings of a study, or `no_finding`; empty where nothing is known."""
    found = frozenset(n for n, s in statuses.items() if s is Status.PRESENT and n in _LEAVES)
    return found if found or not is_normal(statuses) else frozenset({NO_FINDING})


def count_sharing(own: Findings, hits: Sequence[Findings]) -> int:
    """Return how many hits share the main finding of an image: the one of its findings that most hits have.

    0 where nothing is known of the image.
    """
    return max(Counter(finding for hit in hits for finding in hit & own).values(), default=0)


def prediction_features(hits: Sequence[Findings]) -> tuple[str, NDArray[np.float64]]:
    """Return the finding that hits agree on most, and the features of the prediction.

    The features are 1 and the two largest counts of a finding among the hits. Earlier hits count slightly
    more, so that hardly two answers have equal features: otherwise equal predictions would move together, and
    the promise would hold more often than nine times in ten.
    """
    hit_weights = np.linspace(1.05, 0.95, len(hits))
    counts: dict[str, float] = {}
    for weight, hit in zip(hit_weights, hits, strict=True):
        for finding in hit:
            counts[finding] = counts.get(finding, 0.0) + float(weight)
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])) or [(_REST, 0.0)]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    return ranked[0][0], np.array([1.0, ranked[0][1], second])


def fit_guarantee(
    searches: Mapping[str, Sequence[LabelledSearch]], lengths: Iterable[int] = range(1, MOST_HITS + 1)
) -> Guarantee | None:
    """Fit what answers can promise; None from fewer than `FEWEST_SUBJECTS`.

    Args:
        searches: target → one search for each subject, in random order, with up to `MOST_HITS` hits.
        lengths: numbers of hits that are to carry a promise.
    """
    subjects = max(map(len, searches.values()), default=0)
    if subjects < FEWEST_SUBJECTS:
        return None
    lengths = tuple(lengths)
    bounds: dict[str, dict[int, dict[str, LowerBound | None]]] = {}
    for target, of_target in searches.items():
        by_length = {k: _fit_bounds([one for one in of_target if len(one.hits) >= k], k) for k in lengths}
        bounds[target] = {k: groups for k, groups in by_length.items() if groups}
    return Guarantee(bounds, subjects)


def _fit_bounds(searches: Sequence[LabelledSearch], k: int) -> dict[str, LowerBound | None]:
    """Fit the bounds of answers with k hits: one for each large group, one for the rest."""
    if len(searches) < FEWEST_SUBJECTS:
        return {}
    described = [prediction_features(search.hits[:k]) for search in searches]
    groups = np.array([group for group, _ in described])
    features = np.stack([row for _, row in described])
    count = np.array([count_sharing(search.own, search.hits[:k]) for search in searches], dtype=np.float64)
    fits = np.arange(len(searches)) % 2 == 0
    large = {
        str(group)
        for group in set(groups)
        if min((fits & (groups == group)).sum(), (~fits & (groups == group)).sum()) >= FEWEST_IN_GROUP
    }
    bounds: dict[str, LowerBound | None] = {}
    for group in (*sorted(large), _REST):
        member = ~np.isin(groups, sorted(large)) if group == _REST else groups == group
        bounds[group] = _fit_bound(features, count, member & fits, member & ~fits)
    return bounds


def _fit_bound(
    features: NDArray[np.float64],
    count: NDArray[np.float64],
    fit: NDArray[np.bool_],
    measure: NDArray[np.bool_],
) -> LowerBound | None:
    """Fit prediction and threshold on one half of the subjects, and measure the margin on the other."""
    if min(fit.sum(), measure.sum()) < FEWEST_IN_GROUP:
        return None
    x, y = features[fit], count[fit]
    weights = np.linalg.solve(x.T @ x + _DAMPING * np.eye(x.shape[1]), x.T @ y)
    predicted, error = x @ weights, x @ weights - y
    threshold = next(
        (
            float(least)
            for least in np.unique(predicted)
            if (predicted >= least).sum() >= FEWEST_IN_GROUP
            and (margin := _conformal_margin(error[predicted >= least])) is not None
            and least - margin > 0
        ),
        None,
    )
    if threshold is None:
        return None
    measured = features[measure] @ weights
    while True:
        promises = measured >= threshold
        margin = _conformal_margin((measured - count[measure])[promises])
        if margin is None or promises.sum() < FEWEST_IN_GROUP:
            return None
        if margin < threshold:
            a, b, c = map(float, weights)
            return LowerBound((a, b, c), threshold, margin, int(promises.sum()))
        # Some predictions from the threshold on promise nothing: the level must hold for those that do.
        threshold = max(float(measured[measured > threshold].min(initial=np.inf)), margin)


def _conformal_margin(errors: NDArray[np.float64]) -> float | None:
    """The ⌈(n + 1)·LEVEL⌉-th smallest error; None where there are too few for it to exist."""
    rank = ceil((len(errors) + 1) * LEVEL)
    return None if rank > len(errors) else float(np.sort(errors)[rank - 1])
