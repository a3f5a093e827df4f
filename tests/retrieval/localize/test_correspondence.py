"""Correspondence: mutually nearest parts of two images."""

import numpy as np
import pytest

from corpus.phantom import render, scene
from retrieval.localize.correspondence import PAIRS, _match, find_correspondence
from retrieval.localize.specificity.map_statistics import Contrasts, References, encode_image
from trainer.runtime.encoder import Encoder, Patches

pytestmark = pytest.mark.usefixtures("home")


def test_an_image_corresponds_to_itself_position_by_position(encoder: Encoder) -> None:
    image = render(scene(1, 4), 200)
    found = find_correspondence(encoder, image, image)
    assert 1 <= len(found.pairs) <= PAIRS
    assert all(pair.query == pair.hit for pair in found.pairs)
    np.testing.assert_allclose(found.query, found.hit, atol=1e-5)


def test_every_patch_of_the_query_has_its_nearest_patch_in_the_hit(encoder: Encoder) -> None:
    image, case = render(scene(1, 4), 200), render(scene(1, 9), 160)
    itself, other = find_correspondence(encoder, image, image), find_correspondence(encoder, image, case)
    assert [match.query for match in itself.matches] == [match.query for match in other.matches]
    assert len({match.query for match in itself.matches}) == len(itself.matches) > PAIRS
    assert all(match.score > 0.999 for match in itself.matches)
    assert all(-1.001 <= match.score <= 1.001 for match in other.matches)
    assert all(0 <= m.hit.left < m.hit.right <= case.shape[1] for m in other.matches)


def test_swapping_the_images_swaps_the_sides_of_the_answer(encoder: Encoder) -> None:
    one, other = render(scene(1, 4), 200), render(scene(1, 9), 160)[:, 10:130]
    there, back = find_correspondence(encoder, one, other), find_correspondence(encoder, other, one)
    assert [(pair.query, pair.hit) for pair in there.pairs] == [(pair.hit, pair.query) for pair in back.pairs]
    np.testing.assert_allclose(there.query, back.hit, atol=1e-5)


def test_boxes_and_maps_are_in_each_images_own_pixels(encoder: Encoder) -> None:
    one, other = render(scene(1, 4), 200), render(scene(1, 9), 160)[:, 10:130]
    found = find_correspondence(encoder, one, other)
    assert (found.query.shape, found.hit.shape) == (one.shape, other.shape)
    assert found.pairs[0].score == 1.0
    scores = [pair.score for pair in found.pairs]
    assert scores == sorted(scores, reverse=True)
    for pair in found.pairs:
        for box, image in ((pair.query, one), (pair.hit, other)):
            assert 0 <= box.left < box.right <= image.shape[1]
            assert 0 <= box.top < box.bottom <= image.shape[0]


def test_a_finding_in_both_images_ranks_before_anything_else_they_share(encoder: Encoder) -> None:
    encoded = [encode_image(encoder, render(scene(2, number), 200)) for number in range(12)]
    references = References(
        np.stack([one.patches for one in encoded]), np.stack([one.vector for one in encoded])
    )
    finding = Contrasts(encoder).findings[0]
    usual = references.patches.mean(axis=0)
    size = usual.shape[0]
    odd = np.random.default_rng(0).standard_normal(encoder.dim).astype(np.float32)
    odd -= (odd @ finding) * finding

    def grid_with(shown: tuple[int, int], strange: tuple[int, int]) -> np.ndarray:
        grid = usual.copy()
        grid[strange] = odd / np.linalg.norm(odd)
        grid[shown] = finding
        return grid

    placed = encoder.framing.placement(200, 200)
    grids = np.stack([grid_with((1, 1), (size - 2, 1)), grid_with((1, size - 2), (size - 2, size - 2))])
    patches = Patches(grids, [placed, placed], encoder.image_size)

    def strongest(findings: np.ndarray | None) -> list[tuple[int, ...]]:
        strength = _match(patches, references, findings)[1]
        cells = np.unravel_index(int(strength.argmax()), strength.shape)
        return [tuple(int(at) for at in np.unravel_index(int(cell), (size, size))) for cell in cells]

    assert strongest(None) == [(size - 2, 1), (size - 2, size - 2)]
    assert strongest(Contrasts(encoder).findings) == [(1, 1), (1, size - 2)]
