"""Drafts over a small index: what they say comes from neighbours, and this picture supports it."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from corpus.dicom.spacing import Spacing
from corpus.findings import Status
from corpus.language.sections import sentences
from indexer.index import Index
from retrieval.draft.draft import draft, localizer
from retrieval.draft.neighbours import KINDS
from retrieval.draft.text import HEADING, Draft
from retrieval.draft.votes import NAMES, SIDES, Calibration, Scale
from retrieval.localize.answer import Localization, Side
from retrieval.localize.specificity.calibration import Calibration as MapCalibration
from retrieval.localize.specificity.calibration import keep
from retrieval.localize.specificity.evidence import STATISTICS, References

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

CONTRACTS = Path(__file__).resolve().parents[3] / "docs" / "contracts"
SCHEMA = json.loads((CONTRACTS / "draft.schema.json").read_text())
FILMS = [f"phantom://9/{number}" for number in range(4)]
NEVER = re.compile(r"\b(stable|unchanged|prior|previous|compar|interval|new|xxxx|\d+|possible|patient)", re.I)


@pytest.fixture
def calibrated(index: Index) -> Iterator[Index]:
    """The ward as if its films had taught that every lift counts and every finding is frequent."""
    everyone = {kind: {status: dict.fromkeys(NAMES, 0.2) for status in SIDES} for kind in KINDS}
    scale = Scale((0.0, 0.5, 0.5), dict.fromkeys(NAMES, 0.3), 0.25)
    votes = Calibration(dict.fromkeys(SIDES, scale), everyone, 99)
    fingerprint = index.active_version.fingerprint
    index.calibrations.keep(fingerprint, {"votes": votes.as_json()})
    yield index
    index.calibrations.keep(fingerprint, {"votes": None})


TURNED: dict[Side | None, Side | None] = {"left": "right", "right": "left", "both": "both", None: None}


class SeenOn:
    """A localizer that sees every finding on one side, and in the mirrored film on the other."""

    def __init__(self, side: Side, *, turns: bool = True, reason: str | None = None) -> None:
        self.side, self.turns, self.reason = side, turns, reason
        self.film: np.ndarray | None = None  # type: ignore[type-arg]

    def __call__(
        self,
        _: object,
        image: np.ndarray,
        phrases: Sequence[str],
        /,
        *,
        spacing: Spacing | None = None,  # type: ignore[type-arg]
    ) -> list[Localization]:
        mirrored = self.film is not None and np.array_equal(image, self.film[:, ::-1])
        self.film = image
        side = TURNED[self.side] if mirrored and self.turns else self.side
        heat = np.ones(image.shape, np.float32)
        return [
            Localization(phrase, None, "patches", None, heat, heat > 0, self.reason, 1.0, 0.5, side=side)
            for phrase in phrases
        ]


def told(made: Draft) -> str:
    return " ".join(statement.sentence.placed.text for statement in made.statements)


def test_a_draft_keeps_its_contract_and_cites_what_stands_in_the_index(calibrated: Index) -> None:
    stated = 0
    for film in FILMS:
        made = draft(calibrated, film)
        jsonschema.validate(json.loads(json.dumps(made.as_json())), SCHEMA)
        assert made.text().startswith(HEADING + "\n")
        for statement in made.statements:
            stated += 1
            assert statement.sentence.sources
            for source in statement.sentence.sources:
                study = calibrated.catalog.studies([source.study_id])[source.study_id]
                assert study.report is not None
                number = int(source.item_id.rpartition(".")[2])
                assert sentences(study.report)[number] == source.text
                assert study.findings[statement.votes[0].finding] is statement.votes[0].status
    assert stated


def test_what_is_not_stated_is_not_assessed_and_never_absent(calibrated: Index) -> None:
    for film in FILMS:
        made = draft(calibrated, film)
        stated = made.findings
        assert set(made.not_assessed) | set(stated) >= set(NAMES) - {"no_finding"}
        assert not set(made.not_assessed) & set(stated)
        absent = {name for name, status in stated.items() if status is Status.ABSENT}
        said = {
            n for s in made.statements for n, status in s.sentence.claims.items() if status is Status.ABSENT
        }
        assert absent == said | {v.finding for v in made.unworded if v.status is Status.ABSENT}


def test_no_word_of_another_persons_story_is_in_a_draft(calibrated: Index) -> None:
    for film in FILMS:
        assert not NEVER.search(told(draft(calibrated, film)))


def test_a_side_is_asked_unless_this_picture_shows_it(calibrated: Index) -> None:
    kept: set[str] = set()
    for film in FILMS:
        blind = told(draft(calibrated, film)).lower()
        assert not re.search(r"\b(right|left|bilateral)", blind)
        sides: tuple[Side, ...] = ("right", "left")
        for side in sides:
            made = draft(calibrated, film, localizing=SeenOn(side))
            assert not re.search(rf"\b({TURNED[side]}|bilateral)", told(made).lower())
            kept.update(side for s in made.statements if "side" in s.sentence.placed.kept)
    assert kept == {"right", "left"}


@pytest.mark.parametrize("doubted", [SeenOn("right", turns=False), SeenOn("right", reason="not calibrated")])
def test_a_map_that_does_not_turn_with_the_film_or_was_not_checked_shows_nothing(
    calibrated: Index, doubted: SeenOn
) -> None:
    for film in FILMS:
        made = draft(calibrated, film, localizing=doubted)
        assert not any(statement.sentence.placed.kept for statement in made.statements)


def test_maps_are_only_made_for_a_draft_where_their_word_would_count(index: Index) -> None:
    assert localizer(index) is None
    count, dim = len(STATISTICS), index.active_version.dim
    films = References(np.zeros((1, 2, 2, dim), np.float32), np.zeros((1, dim), np.float32))
    written = []
    for method, present in (("gscorecam", 0.5), ("patches", 0.9), ("gradcam", 0.2)):
        rates = {"present": present}
        bar = MapCalibration(np.ones(count + 1), np.zeros(count), np.ones(count), 0.5, films, rates)
        written.append(keep(bar, index.active_version.fingerprint, method, index.home.folder))
    try:
        shows = localizer(index)
    finally:
        for file in written:  # the index is of other tests, too
            file.unlink()
    assert isinstance(shows, partial)
    assert shows.keywords["method"] == "patches"
    assert shows.keywords["thresholds"].rates == {"present": 0.9}


def test_the_pictures_own_subject_votes_on_nothing(calibrated: Index) -> None:
    made = draft(calibrated, "phantom://3/0")
    studies = calibrated.catalog.studies(s.study_id for st in made.statements for s in st.sentence.sources)
    own = calibrated.catalog.studies(["phantom:3-0"])["phantom:3-0"].subject_id
    assert own not in {study.subject_id for study in studies.values()}


def test_without_calibration_only_what_nearly_all_neighbours_show_is_stated(index: Index) -> None:
    for film in FILMS:
        made = draft(index, film)
        assert made.calibrated_by is None
        for statement in made.statements:
            assert statement.votes[0].probability >= 0.8


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("age>200", "no case of the index meets the filter"),
        ("scanner in (A, B)", "none of the neighbours has a report"),
    ],
)
def test_where_nobody_can_be_asked_it_says_so(calibrated: Index, where: str, reason: str) -> None:
    made = draft(calibrated, FILMS[0], where=where)
    assert reason in str(made.reason)
    assert not made.statements
    assert reason in made.text()
    jsonschema.validate(json.loads(json.dumps(made.as_json())), SCHEMA)


def test_neighbours_who_all_say_the_same_are_cited_together(calibrated: Index) -> None:
    made = draft(calibrated, FILMS[0], where="source=manifest and sex=F")
    texts = [statement.sentence.placed.text for statement in made.statements]
    assert len(texts) == len(set(texts))
    assert all(len(statement.sentence.sources) == 3 for statement in made.statements)
