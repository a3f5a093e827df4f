"""Sampling of batches: the images and texts of each step, fixed by the seed and the epoch's number.

The plan of an epoch is complete before its first step, so that a run can resume in the middle.
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

Index = NDArray[np.int64]


@redacted
@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one step: `images` (n,) and `texts` (m,) index the pool, `pairs` (p, 2) index the batch."""

    images: Index
    texts: Index
    pairs: Index


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the batches of an epoch.

    `pool`: the items.
    `pairing`: `independent` draws images and texts separately (MedCLIP's decoupling; a true pair is known
    when a batch contains both sides of a study); `matched` pairs each image with a text that shares a
    finding; `true` pairs it with a text of its own study.
    `batch_size`: images per step.
    `text_batch_size`: texts per step; 0 for as many as images, or all if there are fewer.
    `balance`: in [0, 1]; 0 draws items as they are, 1 draws every finding about equally often.
    `seed`: of the draws.
    `steps`: steps per epoch; 0 for each image about once.
    `shares`: source → its share of the drawn images; it limits how much the appearance of a source predicts
    findings.
    `texts_per_picture`: texts per paired image, drawn anew each time.
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
            raise TrainingError("paired batches have as many texts as images; drop text_batch_size")
        independent = self.pairing == "independent"  # a batch may contain a paired text several times
        for size, items, what in (
            (self.batch_size, len(self.pool.images), "images"),
            (self.text_batch_size if independent else 0, len(self.pool.texts), "texts"),
        ):
            if size > items:
                raise TrainingError(
                    f"a batch of {size} is larger than the corpus: {items} {what}; lower --batch-size"
                )

    def plan(self, epoch: int) -> list[Batch]:
        """The batches of an epoch (from 0), the last one shorter where the images do not divide.

        Raises:
            TrainingError: `true` pairing, and no image has a text of its own study.
        """
        return list(self._batches(np.random.default_rng([self.seed, epoch])))

    def _batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        partners = self._partners()
        weights = rarity([text.statuses for text in self.pool.texts], self.balance) if self.balance else None
        images = np.flatnonzero([len(options) > 0 for options in partners]) if partners else None
        for drawn in self._draw_images(rng, images):
            if partners is None:
                wanted = self.text_batch_size or self.batch_size
                texts = self._draw_texts(rng, round(len(drawn) * wanted / self.batch_size), weights)
                pairs = self._known_pairs(drawn, texts)
            else:
                chosen = [self._choose(rng, partners[image]) for image in drawn]
                owners = np.repeat(np.arange(len(drawn)), [len(own) for own in chosen])
                # A text that several images drew is one text with several pairs: twice in a batch it would
                # be its own negative.
                texts, columns = np.unique(np.concatenate(chosen), return_inverse=True)
                pairs = np.stack([owners, columns], axis=1)
                if self.pairing == "true":
                    known = self._known_pairs(drawn, texts)
                    pairs = np.unique(np.concatenate([pairs, known]), axis=0)
            yield Batch(drawn, texts, pairs)

    def _choose(self, rng: np.random.Generator, partners: Index) -> Index:
        return rng.choice(partners, min(self.texts_per_picture, len(partners)), replace=False)

    def _draw_images(self, rng: np.random.Generator, among: Index | None) -> Iterator[Index]:
        candidates = np.arange(len(self.pool.images)) if among is None else among
        count = self.steps * self.batch_size or len(candidates)
        if self.balance or self.shares:
            images = [self.pool.images[i] for i in candidates]
            weights = rarity([image.statuses for image in images], self.balance)
            weights = shared_out(weights, [p.study_id.partition(":")[0] for p in images], self.shares)
            order = rng.choice(candidates, count, p=weights)
        else:
            rounds = -(-count // len(candidates))
            order = np.concatenate([rng.permutation(candidates) for _ in range(rounds)])[:count]
        for start in range(0, count, self.batch_size):
            if count - start > 1 or start == 0:  # a batch of one image has no negatives
                yield order[start : start + self.batch_size]

    def _draw_texts(self, rng: np.random.Generator, count: int, weights: NDArray[np.float64] | None) -> Index:
        count = max(2, min(count, len(self.pool.texts)))
        return rng.choice(len(self.pool.texts), count, replace=False, p=weights)

    def _partners(self) -> list[Index] | None:
        """For each image the texts that may be its pair; None when they are drawn independently."""
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
                    for key in ([image.study_id] if self.pairing == "true" else finding_keys(image.statuses))
                    for number in kin.get(key, ())
                ],
                np.int64,
            )
            for image in self.pool.images
        ]
        if not any(len(options) for options in partners):
            kind = "text of its own study" if self.pairing == "true" else "text that shares a finding"
            raise TrainingError(f"no training image has a {kind}: there are no pairs to learn from")
        return partners

    def _known_pairs(self, images: Index, texts: Index) -> Index:
        where: defaultdict[str, list[int]] = defaultdict(list)
        for column, number in enumerate(texts):
            for study in self.pool.texts[number].studies:
                where[study].append(column)
        pairs = [
            (row, column)
            for row, number in enumerate(images)
            for column in where.get(self.pool.images[number].study_id, ())
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)


def shared_out(
    weights: NDArray[np.float64], sources: Sequence[str], shares: Mapping[str, float]
) -> NDArray[np.float64]:
    """Draw probabilities (n,): each named source has its share, the other sources share the rest.

    The share of a source without items goes to the sources with items.
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
        raise TrainingError("sampling.source_shares leave no image to draw")
    shared: NDArray[np.float64] = probabilities / probabilities.sum()
    return shared


def finding_keys(statuses: Statuses) -> list[str]:
    """The classes that an item counts for: its present leaf findings, else `normal` or `other`."""
    found = sorted(present_leaves(statuses))
    return found or (["normal"] if is_normal(statuses) else ["other"])


def rarity(statuses: Sequence[Statuses], balance: float) -> NDArray[np.float64]:
    """Draw probabilities (n,) that favour items with rare findings.

    The weight of an item is the mean over its findings of 1 / (number of items with that finding), to the
    power `balance`.
    """
    keys = [finding_keys(item) for item in statuses]
    counts: defaultdict[str, int] = defaultdict(int)
    for item in keys:
        for key in item:
            counts[key] += 1
    weights = np.array([np.mean([1 / counts[key] for key in item]) for item in keys]) ** balance
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities
