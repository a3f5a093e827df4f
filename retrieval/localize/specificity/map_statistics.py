"""Statistics of a map that measure how specific it is to its phrase and its image; a calibration weighs them.

A map lights up somewhere for every text. So the phrase is compared with others on the same image (other
findings, its opposite, random vectors) and, where the encoder is calibrated, with itself on the images of the
calibration. Nothing here reads the words of the phrase.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY
from corpus.statistics import unit_rows
from retrieval.localize.saliency.maps import PATCHES, RawMaps, patch_similarity, raw_maps, scaled
from trainer.runtime.encoder import Encoder

Vectors = NDArray[np.float32]

STATISTICS = ("peak", "excess", "similarity", "contrast", "focus", "sameness", "familiarity")
"""The statistics of a map:

- `peak`: the best patch's cosine with the phrase, in deviations from the same on the reference images;
- `excess`: how far the cosines exceed, at their best positions, those at the same positions of the reference
  images, in deviations;
- `similarity`: as `peak`, of the whole image's cosine;
- `contrast`: the share of other findings and random vectors with a lower peak;
- `focus`: the share of the map's heat in its hottest tenth;
- `sameness`: the largest correlation of the map with those of an absent finding, the opposite, and a random
  vector;
- `familiarity`: the mean cosine of this image's patches with the reference images' at the same positions,
  without the component that those share at all positions.
"""

RANDOM_VECTORS = 4
_SEED = 0
_FLOOR = 1e-3  # of a deviation of cosines
_SPREAD_FLOOR = 0.01  # the same at one position, where the images vary little
_BEST_POSITIONS = 3


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Images that a phrase is compared on.

    `patches`: (n, gh, gw, dim) float32, unit.
    `vectors`: (n, dim) float32, unit.
    """

    patches: Vectors
    vectors: Vectors

    def excess(self, similarities: Vectors, on_references: Vectors, inside: NDArray[np.bool_]) -> float:
        """How far an image's (gh, gw) cosines exceed the references', (n, gh, gw), position by position."""
        spread = np.maximum(on_references.std(axis=0), _SPREAD_FLOOR)
        above = (similarities - on_references.mean(axis=0)) / spread
        best = np.sort(above[inside])[-_BEST_POSITIONS:]
        return float(best.mean())

    def residuals(self, patches: Vectors) -> Vectors:
        """(…, gh, gw, dim) patches less the references' mean at each position, in standard deviations."""
        usual = self.patches.mean(axis=0)
        spread = np.sqrt(np.square(self.patches - usual).sum(axis=-1).mean(axis=0))
        residuals: Vectors = (patches - usual) / np.maximum(spread, _SPREAD_FLOOR)[..., None]
        return residuals

    def familiarity(self, patches: Vectors) -> float:
        """The mean cosine of an image's (gh, gw, dim) patches with the references' at the same positions.

        The component that the references' patches share at all positions is removed: an image with its parts
        in another order has it, too.
        """
        usual = self.patches.mean(axis=0)
        shared = usual.mean(axis=(0, 1))
        own, theirs = unit_rows(patches - shared), unit_rows(usual - shared)
        return float((own * theirs).sum(axis=-1).mean())


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """An image's features.

    `patches`: (gh, gw, dim), unit.
    `vector`: (dim,), unit.
    `inside`: (gh, gw) bool, the patches that touch the image and not only padding.
    """

    patches: Vectors
    vector: Vectors
    inside: NDArray[np.bool_]

    def peaks(self, texts: Vectors) -> Vectors:
        """(p,) largest cosine of a patch inside the image with each text."""
        found: Vectors = (self.patches[self.inside] @ texts.T).max(axis=0)
        return found


class Contrasts:
    """Texts that a phrase is compared with: the vocabulary's findings and random vectors, for one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        names = [n for n in VOCABULARY.leaves if n not in (NO_FINDING, SUPPORT_DEVICES)]
        self.findings = encoder.encode_texts([name.replace("_", " ") for name in names])
        self.random = random_vectors(RANDOM_VECTORS, encoder.dim, _SEED)

    def opposing(self, text: Vectors, image: EncodedImage) -> Vectors:
        """(3, dim): the finding least similar to the image, the opposite of the text, a random vector.

        The fifth of the findings that is nearest to the text is excluded.
        """
        other = self.findings @ text < np.quantile(self.findings @ text, 0.8)
        similarity = np.where(other, self.findings @ image.vector, np.inf)
        return np.stack([self.findings[int(similarity.argmin())], -text, self.random[0]])


def random_vectors(count: int, dim: int, seed: int) -> Vectors:
    """(count, dim) random unit rows."""
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return unit_rows(drawn)


def encode_image(encoder: Encoder, image: Vectors) -> EncodedImage:
    """The features of an image, (height, width) float32 in [0, 1]."""
    (vector,), patches = encoder.encode_images_and_patches([image])
    return EncodedImage(patches.vectors[0], vector, patches.inside(0))


def measure(
    encoder: Encoder,
    image: Vectors,
    texts: Vectors,
    method: str,
    contrasts: Contrasts,
    references: References | None,
) -> tuple[RawMaps, NDArray[np.float64]]:
    """Map texts over an image and measure each map.

    Args:
        encoder: of the maps and the texts.
        image: (height, width) float32 in [0, 1].
        texts: (p, dim) unit rows.
        method: one of `retrieval.localize.saliency.maps.METHODS`.
        contrasts: of that encoder.
        references: without them, the statistics against reference images are 0.

    Returns:
        The maps of the texts, and (p, len(STATISTICS)).
    """
    encoded = encode_image(encoder, image)
    opposing = [contrasts.opposing(text, encoded) for text in texts]
    every = np.concatenate([texts, *opposing])
    if method == PATCHES:  # of the patches at hand: the image is not encoded again
        [grids] = patch_similarity(encoded.patches[None], every)
    else:
        grids = raw_maps(encoder, [image], every, method)[0].grids
    heats = np.stack([scaled(grid) for grid in grids])[:, _cells(encoded.inside, grids.shape[1:])]
    familiarity = 0.0 if references is None else references.familiarity(encoded.patches)
    rows = []
    for number, text in enumerate(texts):
        others = heats[len(texts) + 3 * number : len(texts) + 3 * number + 3]
        peak = float(encoded.peaks(text[None])[0])
        rivals = encoded.peaks(np.concatenate([_distinct(contrasts.findings, text), contrasts.random]))
        z_peak, excess, z_similarity = 0.0, 0.0, 0.0
        if references is not None:
            on_references = references.patches @ text
            z_peak = _deviations(peak, on_references[:, encoded.inside].max(axis=1))
            excess = references.excess(encoded.patches @ text, on_references, encoded.inside)
            z_similarity = _deviations(float(encoded.vector @ text), references.vectors @ text)
        rows.append(
            (
                z_peak,
                excess,
                z_similarity,
                float((rivals < peak).mean()),
                _focus(heats[number]),
                max(_correlation(heats[number], other) for other in others),
                familiarity,
            )
        )
    own = RawMaps(grids[: len(texts)], image.shape[0], image.shape[1], encoder)
    return own, np.array(rows, dtype=np.float64).reshape(len(texts), len(STATISTICS))


def _distinct(findings: Vectors, text: Vectors) -> Vectors:
    """The findings with another vector than the text."""
    return findings[findings @ text < 0.95]


def _cells(inside: NDArray[np.bool_], grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """`inside` on another grid: each cell takes the value at its centre."""
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
        return 1.0 if one.std() < 1e-9 else 0.0  # a level map is the same as any other
    return float(np.corrcoef(one, other)[0, 1])
