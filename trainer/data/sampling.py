"""Which pictures meet which texts: the plan of one epoch, fixed by the seed and the epoch's number.

A plan is made whole before its epoch starts, so a run that stops in the middle finds its place again.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.findings import Statuses, is_normal, present_leaves
from corpus.redaction import redacted
from trainer.data.items import Pool

Pairing = Literal["independent", "matched", "true"]
PAIRINGS: tuple[Pairing, ...] = ("independent", "matched", "true")

Index = NDArray[np.int64]


@redacted
@dataclass(frozen=True, slots=True)
class Batch:
    """One step's items: `pictures` (n,) and `texts` (m,) index the pool; `pairs` (p, 2) index the batch."""

    pictures: Index
    texts: Index
    pairs: Index


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the batches of an epoch.

    `pairing`: `independent` draws pictures and texts apart (MedCLIP's decoupling; a pair is known when
    both sides of a study happen to be drawn); `matched` gives each picture a text with a like set of
    findings, and calls that a pair; `true` a text of its own study; `texts_per_picture` of them, drawn anew
    each time. `balance` in [0, 1]: 0 draws items
    as they are, 1 draws every finding about equally often. `batch_size` pictures and `text_batch_size`
    texts a step, 0 for as many as pictures, or all there are; `steps` a fixed number of steps, or 0 for
    each picture about once an epoch. `shares`: source → share of the draws of pictures that it gets; what a
    set's films look like then says less of their findings.
    """

    pool: Pool
    pairing: Pairing
    batch_size: int
    text_batch_size: int
    balance: float
    seed: int
    steps: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    texts_per_picture: int = 1

    def __post_init__(self) -> None:
        if self.pairing != "independent" and self.text_batch_size not in (0, self.batch_size):
            raise TrainingError("paired batches have as many texts as pictures; drop text_batch_size")
        independent = self.pairing == "independent"  # paired texts may come again in a batch
        for size, items, what in (
            (self.batch_size, len(self.pool.pictures), "pictures"),
            (self.text_batch_size if independent else 0, len(self.pool.texts), "texts"),
        ):
            if size > items:
                raise TrainingError(
                    f"a batch of {size} is larger than the corpus: {items} {what}; lower --batch-size"
                )

    def plan(self, epoch: int) -> list[Batch]:
        """The batches of an epoch (from 0), the last one shorter where the pictures do not divide.

        Raises:
            TrainingError: `true` pairing, and no picture has a text of its own study.
        """
        return list(self._batches(np.random.default_rng([self.seed, epoch])))

    def _batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        partners = self._partners()
        weights = rarity([text.statuses for text in self.pool.texts], self.balance) if self.balance else None
        pictures = np.flatnonzero([len(options) > 0 for options in partners]) if partners else None
        for drawn in self._draw_pictures(rng, pictures):
            if partners is None:
                wanted = self.text_batch_size or self.batch_size
                texts = self._draw_texts(rng, round(len(drawn) * wanted / self.batch_size), weights)
                pairs = self._known_pairs(drawn, texts)
            else:
                chosen = [self._choose(rng, partners[picture]) for picture in drawn]
                owners = np.repeat(np.arange(len(drawn)), [len(own) for own in chosen])
                # A text that several pictures drew is one text with several pairs: twice in a batch it would
                # be its own negative.
                texts, places = np.unique(np.concatenate(chosen), return_inverse=True)
                pairs = np.stack([owners, places], axis=1)
                if self.pairing == "true":
                    known = self._known_pairs(drawn, texts)
                    pairs = np.unique(np.concatenate([pairs, known]), axis=0)
            yield Batch(drawn, texts, pairs)

    def _choose(self, rng: np.random.Generator, partners: Index) -> Index:
        return rng.choice(partners, min(self.texts_per_picture, len(partners)), replace=False)

    def _draw_pictures(self, rng: np.random.Generator, among: Index | None) -> Iterator[Index]:
        candidates = np.arange(len(self.pool.pictures)) if among is None else among
        count = self.steps * self.batch_size or len(candidates)
        if self.balance or self.shares:
            pictures = [self.pool.pictures[i] for i in candidates]
            weights = rarity([picture.statuses for picture in pictures], self.balance)
            weights = shared_out(weights, [p.study_id.partition(":")[0] for p in pictures], self.shares)
            order = rng.choice(candidates, count, p=weights)
        else:
            rounds = -(-count // len(candidates))
            order = np.concatenate([rng.permutation(candidates) for _ in range(rounds)])[:count]
        for start in range(0, count, self.batch_size):
            if count - start > 1 or start == 0:  # a batch of one picture has nothing to tell it from
                yield order[start : start + self.batch_size]

    def _draw_texts(self, rng: np.random.Generator, count: int, weights: NDArray[np.float64] | None) -> Index:
        count = max(2, min(count, len(self.pool.texts)))
        return rng.choice(len(self.pool.texts), count, replace=False, p=weights)

    def _partners(self) -> list[Index] | None:
        """For each picture the texts that may be its pair; None when they are drawn independently."""
        if self.pairing == "independent":
            return None
        kin: defaultdict[object, list[int]] = defaultdict(list)
        for number, text in enumerate(self.pool.texts):
            keys = text.studies if self.pairing == "true" else finding_keys(text.statuses)
            for key in keys:
                kin[key].append(number)
        partners = [
            np.array(
                [
                    number
                    for key in (
                        [picture.study_id] if self.pairing == "true" else finding_keys(picture.statuses)
                    )
                    for number in kin.get(key, ())
                ],
                np.int64,
            )
            for picture in self.pool.pictures
        ]
        if not any(len(options) for options in partners):
            kind = "text of its own study" if self.pairing == "true" else "text that shares a finding"
            raise TrainingError(f"no training picture has a {kind}: there are no pairs to learn from")
        return partners

    def _known_pairs(self, pictures: Index, texts: Index) -> Index:
        where: defaultdict[str, list[int]] = defaultdict(list)
        for place, number in enumerate(texts):
            for study in self.pool.texts[number].studies:
                where[study].append(place)
        pairs = [
            (place, other)
            for place, number in enumerate(pictures)
            for other in where.get(self.pool.pictures[number].study_id, ())
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)


def shared_out(
    weights: NDArray[np.float64], sources: Sequence[str], shares: Mapping[str, float]
) -> NDArray[np.float64]:
    """Draw probabilities (n,) in which each named source has its share and the others share the rest.

    A source that is not there leaves its share to the others, and so do the others where they are not.
    """
    names = np.array(sources)
    rest = ~np.isin(names, list(shares))
    parts = [(names == source, share) for source, share in shares.items()]
    parts.append((rest, 1 - sum(shares.values())))
    probabilities = np.zeros_like(weights)
    for chosen, share in parts:
        total = weights[chosen].sum()
        if total > 0:
            probabilities[chosen] = weights[chosen] / total * share
    if probabilities.sum() == 0:
        raise TrainingError("sampling.source_shares leave no picture to draw")
    shared: NDArray[np.float64] = probabilities / probabilities.sum()
    return shared


def finding_keys(statuses: Statuses) -> list[str]:
    """What an item counts as: its present leaf findings, or `normal`, or `other`."""
    found = sorted(present_leaves(statuses))
    return found or (["normal"] if is_normal(statuses) else ["other"])


def rarity(statuses: Sequence[Statuses], balance: float) -> NDArray[np.float64]:
    """Draw probabilities (n,) that favour items with rare findings.

    An item weighs the mean over its findings of 1 / how many items have that finding, to the power
    `balance`.
    """
    keys = [finding_keys(item) for item in statuses]
    counts: defaultdict[str, int] = defaultdict(int)
    for item in keys:
        for key in item:
            counts[key] += 1
    weights = np.array([np.mean([1 / counts[key] for key in item]) for item in keys]) ** balance
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities
