"""`similarity index calibrate`: what an index learns from its own films, and keeps beside its version."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.errors import CorpusError
from corpus.images.reader import read_image
from indexer.index import Index
from retrieval.draft.vote_fit import calibrate_votes
from retrieval.draft.votes import FEWEST_FILMS
from retrieval.query.query import TARGETS, Query
from retrieval.reliability.conformal import FEWEST_PEOPLE, MOST_HITS, Searched, marks
from retrieval.reliability.conformal import calibrate as calibrate_guarantee
from retrieval.reliability.ood import FEWEST_PEOPLE as FEWEST_FOR_GATE
from retrieval.reliability.ood import MOST_PICTURES, Gate, Pixels, fit_gate, look
from retrieval.reliability.own_images import Film, OwnFilms, own_films
from retrieval.search import search_vector

_TOGETHER = 32  # films that are looked at together

OnStep = Callable[[str, int, int], None]
"""Told of a step's name, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was learned. `films`: how many could teach; `people`: whose; `seen`: left out, known to the
    encoder.

    `missing`: what could not be learned, each with the reason.
    """

    films: int
    people: int
    seen: int
    missing: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The form of `docs/contracts/index-calibrate.schema.json`."""
        kinds = ("gate", "guarantee", "votes")
        return {
            "films": self.films,
            "people": self.people,
            "seen": self.seen,
            "learned": [kind for kind in kinds if kind not in self.missing],
            "missing": dict(self.missing),
        }


def calibrate(index: Index, on_step: OnStep | None = None) -> Calibrated:
    """Learn gate, guarantee and votes from the index's own films, replacing what was learned before.

    Raises:
        EmptyIndex: nothing was indexed yet.
        EncoderError: the encoder cannot be loaded.
    """
    tell = on_step or (lambda _step, _done, _of: None)
    own = own_films(index)
    people = [film for film in own.one_each() if marks(film.study.findings)]
    guarantee = calibrate_guarantee(search_own(index, people, tell))
    tell("votes", 0, len(own.known))
    votes = calibrate_votes(index, own.known)
    # What a picture looks like has nothing to do with whose it is: the gate learns from everyone.
    everyone = own_films(index, MOST_PICTURES, new_only=False).films
    gate = calibrate_gate(index, everyone, tell)
    index.calibrations.keep(
        index.active_version.fingerprint,
        {
            "gate": None if gate is None else gate.as_json(),
            "guarantee": None if guarantee is None else guarantee.as_json(),
            "votes": None if votes is None else votes.as_json(),
        },
    )
    missing = {}
    if gate is None:
        count = len({film.study.subject_id for film in everyone})
        missing["gate"] = f"{count} people have films: at least {FEWEST_FOR_GATE} are needed"
    if guarantee is None:
        missing["guarantee"] = _too_few(len(people), FEWEST_PEOPLE, "people", own)
    if votes is None:
        missing["votes"] = _too_few(len(own.known), FEWEST_FILMS, "films", own)
    return Calibrated(len(own.films), len(people), own.seen, missing)


def calibrate_gate(index: Index, films: Sequence[Film], tell: OnStep) -> Gate | None:
    """Look at films of the index again, as files; one that cannot be read any more teaches nothing."""
    points: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    people: list[str] = []
    for start in range(0, len(films), _TOGETHER):
        tell("gate", start, len(films))
        read = [
            (film, pixels)
            for film in films[start : start + _TOGETHER]
            if (pixels := _pixels(film)) is not None
        ]
        if read:
            points.append(look(index.encoder, [pixels for _, pixels in read]))
            people += [film.study.subject_id for film, _ in read]
    if not points:
        return None
    film_points, inverted = (np.concatenate(side) for side in zip(*points, strict=True))
    return fit_gate(film_points, inverted, people)


def _pixels(film: Film) -> Pixels | None:
    try:
        return read_image(film.location)
    except CorpusError:
        return None


def search_own(index: Index, films: Sequence[Film], tell: OnStep) -> dict[str, list[Searched]]:
    """Search for each film as if it were new, once for each target."""
    searched: dict[str, list[Searched]] = {target: [] for target in TARGETS}
    for number, film in enumerate(films):
        tell("guarantee", number, len(films))
        for target in TARGETS:
            query = Query(image=film.location, target=target, k=MOST_HITS, subject=film.study.subject_id)
            answer = search_vector(index, query, "image", film.vector)
            hits = [marks(hit.case.findings) for hit in answer.hits]
            searched[target].append(Searched(marks(film.study.findings), hits))
    return searched


def _too_few(count: int, fewest: int, what: str, own: OwnFilms) -> str:
    seen = (
        f"; {own.seen} films are of people that the encoder learned from, and do not count"
        if own.seen
        else ""
    )
    return f"{count} {what} whose findings are known: at least {fewest} are needed{seen}"
