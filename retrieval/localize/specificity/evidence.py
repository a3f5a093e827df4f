"""How much a map answers to its phrase and its picture, in numbers that a calibration weighs.

A map lights up somewhere for every text. So the phrase is asked beside others on the same picture (other
findings, its opposite, random vectors) and, where films are known that the encoder was calibrated on, beside
the same phrase on those. Nothing here reads the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY
from retrieval.localize.saliency.maps import RawMaps, raw_maps, scaled
from trainer.runtime.encoder import Encoder, Patches
from trainer.runtime.feature_maps import whole_and_patches

Vectors = NDArray[np.float32]

STATISTICS = ("peak", "excess", "likeness", "contrast", "focus", "sameness", "familiarity")
"""What is measured of each map:

- `peak`: the best patch's cosine with the phrase, in deviations from the same on the reference films;
- `excess`: how far the cosines pass, at their best places, what they are at the same places of the reference
  films, in deviations;
- `likeness`: as `peak`, of the whole picture's cosine;
- `contrast`: the share of other findings and random vectors whose peak is lower;
- `focus`: the share of the map's heat in its hottest tenth;
- `sameness`: the largest correlation of the map with those of an absent finding, the opposite, and a random
  vector;
- `familiarity`: the mean cosine of this picture's patches with the reference films' at the same places, less
  what those share at all places.
"""

RANDOM_VECTORS = 4
_SEED = 0
_FLOOR = 1e-3  # of a deviation of cosines
_SPREAD_FLOOR = 0.01  # the same at one place, where some films tell little of it
_BEST_PLACES = 3


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Films that a phrase is also asked on: `patches` (n, gh, gw, dim) unit, `vectors` (n, dim) unit."""

    patches: Vectors
    vectors: Vectors

    def excess(self, similarities: Vectors, on_films: Vectors, inside: NDArray[np.bool_]) -> float:
        """How far a picture's (gh, gw) cosines pass those of the films, (n, gh, gw), at the same places."""
        above = (similarities - on_films.mean(axis=0)) / np.maximum(on_films.std(axis=0), _SPREAD_FLOOR)
        best = np.sort(above[inside])[-_BEST_PLACES:]
        return float(best.mean())

    def residuals(self, patches: Vectors) -> Vectors:
        """What of (…, gh, gw, dim) patches is not usual at their places, in the films' deviations."""
        usual = self.patches.mean(axis=0)
        spread = np.sqrt(np.square(self.patches - usual).sum(axis=-1).mean(axis=0))
        left: Vectors = (patches - usual) / np.maximum(spread, _SPREAD_FLOOR)[..., None]
        return left

    def familiarity(self, patches: Vectors) -> float:
        """The mean cosine of a picture's (gh, gw, dim) patches with the films' at the same places.

        What the films' patches share at all places is taken out: a film whose parts lie in another order has
        it, too.
        """
        usual = self.patches.mean(axis=0)
        shared = usual.mean(axis=(0, 1))
        own, theirs = _unit(patches - shared), _unit(usual - shared)
        return float((own * theirs).sum(axis=-1).mean())


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _FLOOR)
    return unit


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A picture as the encoder sees it: `patches` (gh, gw, dim), `vector` (dim,), `inside` (gh, gw) bool."""

    patches: Vectors
    vector: Vectors
    inside: NDArray[np.bool_]

    def peaks(self, texts: Vectors) -> Vectors:
        """(p,) largest cosine of a patch that touches the picture with each text."""
        found: Vectors = (self.patches[self.inside] @ texts.T).max(axis=0)
        return found


class Contrasts:
    """What a phrase is asked beside: the vocabulary's findings and random vectors, for one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        names = [n for n in VOCABULARY.leaves if n not in (NO_FINDING, SUPPORT_DEVICES)]
        self.findings = encoder.encode_texts([name.replace("_", " ") for name in names])
        self.random = random_vectors(RANDOM_VECTORS, encoder.dim, _SEED)

    def beside(self, text: Vectors, look: Look) -> Vectors:
        """(3, dim): a finding that is absent as far as the encoder sees, the opposite, a random vector.

        Of findings that say much the same as the text none is taken.
        """
        other = self.findings @ text < np.quantile(self.findings @ text, 0.8)
        likeness = np.where(other, self.findings @ look.vector, np.inf)
        return np.stack([self.findings[int(likeness.argmin())], -text, self.random[0]])


def random_vectors(count: int, dim: int, seed: int) -> Vectors:
    """(count, dim) unit rows of no meaning."""
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def look_at(encoder: Encoder, images: Sequence[Vectors]) -> list[Look]:
    """See pictures, each (height, width) float32 in [0, 1]."""
    with torch.inference_mode():
        whole, parts = whole_and_patches(encoder.model, encoder.inputs(images))
        vectors, patches = (
            F.normalize(features.float(), dim=-1).cpu().numpy() for features in (whole, parts)
        )
    places = [encoder.framing.place(*image.shape) for image in images]
    seen = Patches(patches, places, encoder.image_size)
    return [Look(patches[i], vectors[i], seen.inside(i)) for i in range(len(images))]


def measure(
    encoder: Encoder,
    image: Vectors,
    texts: Vectors,
    method: str,
    contrasts: Contrasts,
    references: References | None,
) -> tuple[RawMaps, NDArray[np.float64]]:
    """Map texts over a picture and measure each map.

    Args:
        encoder: whose picture and texts these are.
        image: (height, width) float32 in [0, 1].
        texts: (p, dim) unit rows.
        method: one of `retrieval.localize.saliency.maps.METHODS`.
        contrasts: of that encoder.
        references: without them, what is measured against films is 0.

    Returns:
        The maps of the texts, and (p, len(STATISTICS)).
    """
    look = look_at(encoder, [image])[0]
    beside = [contrasts.beside(text, look) for text in texts]
    maps = raw_maps(encoder, [image], np.concatenate([texts, *beside]), method)[0]
    heats = np.stack([scaled(grid) for grid in maps.grids])[:, _cells(look.inside, maps.grids.shape[1:])]
    familiarity = 0.0 if references is None else references.familiarity(look.patches)
    rows = []
    for place, text in enumerate(texts):
        others = heats[len(texts) + 3 * place : len(texts) + 3 * place + 3]
        peak = float(look.peaks(text[None])[0])
        rivals = look.peaks(np.concatenate([_unlike(contrasts.findings, text), contrasts.random]))
        z_peak, excess, z_likeness = 0.0, 0.0, 0.0
        if references is not None:
            on_films = references.patches @ text
            z_peak = _deviations(peak, on_films[:, look.inside].max(axis=1))
            excess = references.excess(look.patches @ text, on_films, look.inside)
            z_likeness = _deviations(float(look.vector @ text), references.vectors @ text)
        rows.append(
            (
                z_peak,
                excess,
                z_likeness,
                float((rivals < peak).mean()),
                _focus(heats[place]),
                max(_correlation(heats[place], other) for other in others),
                familiarity,
            )
        )
    own = RawMaps(maps.grids[: len(texts)], maps.height, maps.width, encoder)
    return own, np.array(rows, dtype=np.float64).reshape(len(texts), len(STATISTICS))


def _unlike(findings: Vectors, text: Vectors) -> Vectors:
    """The findings whose vectors are not the text's own."""
    return findings[findings @ text < 0.95]


def _cells(inside: NDArray[np.bool_], grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """`inside` on a grid of another coarseness: each cell takes the value at its centre."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * have / cells).astype(int)
        for cells, have in zip(grid, inside.shape, strict=True)
    )
    found: NDArray[np.bool_] = inside[rows[:, None], columns[None, :]]
    return found


def _deviations(value: float, others: Vectors) -> float:
    """How many robust deviations a value lies above the median of others."""
    middle = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - middle)))
    return (value - middle) / max(spread, _FLOOR)


def _focus(heat: Vectors) -> float:
    """The share of a map's heat in the hottest tenth of its cells."""
    total = float(heat.sum())
    hottest = np.sort(heat)[-max(1, round(heat.size / 10)) :]
    return float(hottest.sum()) / total if total > 0 else 0.0


def _correlation(one: Vectors, other: Vectors) -> float:
    if one.std() < 1e-9 or other.std() < 1e-9:
        return 1.0 if one.std() < 1e-9 else 0.0  # a map that is level says the same as any
    return float(np.corrcoef(one, other)[0, 1])
