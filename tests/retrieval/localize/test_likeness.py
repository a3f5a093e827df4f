"""Parts of two pictures that choose one another."""

import numpy as np
import pytest

from corpus.phantom import render, scene
from retrieval.localize.likeness import PAIRS, likeness
from trainer.encoder import Encoder

pytestmark = pytest.mark.usefixtures("home")


def test_a_picture_is_like_itself_in_the_same_places(encoder: Encoder) -> None:
    film = render(scene(1, 4), 200)
    found = likeness(encoder, film, film)
    assert 1 <= len(found.pairs) <= PAIRS
    assert all(pair.query == pair.hit for pair in found.pairs)
    np.testing.assert_allclose(found.query, found.hit, atol=1e-5)


def test_every_patch_of_the_film_has_its_nearest_in_the_case(encoder: Encoder) -> None:
    film, case = render(scene(1, 4), 200), render(scene(1, 9), 160)
    itself, other = likeness(encoder, film, film), likeness(encoder, film, case)
    assert [match.query for match in itself.matches] == [match.query for match in other.matches]
    assert len({match.query for match in itself.matches}) == len(itself.matches) > PAIRS
    assert all(match.score > 0.999 for match in itself.matches)
    assert all(-1.001 <= match.score <= 1.001 for match in other.matches)
    assert all(0 <= m.hit.left < m.hit.right <= case.shape[1] for m in other.matches)


def test_changing_sides_changes_the_sides_of_the_answer(encoder: Encoder) -> None:
    one, other = render(scene(1, 4), 200), render(scene(1, 9), 160)[:, 10:130]
    there, back = likeness(encoder, one, other), likeness(encoder, other, one)
    assert [(pair.query, pair.hit) for pair in there.pairs] == [(pair.hit, pair.query) for pair in back.pairs]
    np.testing.assert_allclose(there.query, back.hit, atol=1e-5)


def test_boxes_and_maps_are_in_each_pictures_own_pixels(encoder: Encoder) -> None:
    one, other = render(scene(1, 4), 200), render(scene(1, 9), 160)[:, 10:130]
    found = likeness(encoder, one, other)
    assert (found.query.shape, found.hit.shape) == (one.shape, other.shape)
    assert found.pairs[0].score == 1.0
    scores = [pair.score for pair in found.pairs]
    assert scores == sorted(scores, reverse=True)
    for pair in found.pairs:
        for box, picture in ((pair.query, one), (pair.hit, other)):
            assert 0 <= box.left < box.right <= picture.shape[1]
            assert 0 <= box.top < box.bottom <= picture.shape[0]
