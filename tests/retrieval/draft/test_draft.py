"""Drafts over a small index: sentences come from neighbours, and this image confirms their locations."""

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
from retrieval.draft.votes import NAMES, VOTED_STATUSES, StatusCalibration, VoteCalibration
from retrieval.localize.answer import Localization, MaskLaterality
from retrieval.localize.specificity.calibration import SpecificityCalibration, save_calibration
from retrieval.localize.specificity.map_statistics import STATISTICS, References

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

CONTRACTS = Path(__file__).resolve().parents[3] / "docs" / "contracts"
SCHEMA = json.loads((CONTRACTS / "draft.schema.json").read_text())
IMAGES = [f"phantom://9/{number}" for number in range(4)]
NEVER = re.compile(r"\b(stable|unchanged|prior|previous|compar|interval|new|xxxx|\d+|possible|patient)", re.I)


@pytest.fixture
def calibrated(index: Index) -> Iterator[Index]:
    """The index with a calibration in which every lift counts and every finding is frequent."""
    everyone = {kind: {status: dict.fromkeys(NAMES, 0.2) for status in VOTED_STATUSES} for kind in KINDS}
    fitted = StatusCalibration((0.0, 0.5, 0.5), dict.fromkeys(NAMES, 0.3), 0.25)
    votes = VoteCalibration(dict.fromkeys(VOTED_STATUSES, fitted), everyone, 99)
    fingerprint = index.active_version.fingerprint
    index.calibrations.keep(fingerprint, {"votes": votes.as_json()})
    yield index
    index.calibrations.keep(fingerprint, {"votes": None})


MIRRORED: dict[MaskLaterality | None, MaskLaterality | None] = {
    "left": "right",
    "right": "left",
    "both": "both",
    None: None,
}


class SeenOn:
    """A localizer that finds everything on one side, and in the mirrored image on the other."""

    def __init__(self, side: MaskLaterality, *, turns: bool = True, reason: str | None = None) -> None:
        self.side, self.turns, self.reason = side, turns, reason
        self.image: np.ndarray | None = None  # type: ignore[type-arg]

    def __call__(
        self,
        _: object,
        image: np.ndarray,
        phrases: Sequence[str],
        /,
        *,
        spacing: Spacing | None = None,  # type: ignore[type-arg]
    ) -> list[Localization]:
        mirrored = self.image is not None and np.array_equal(image, self.image[:, ::-1])
        self.image = image
        side = MIRRORED[self.side] if mirrored and self.turns else self.side
        heat = np.ones(image.shape, np.float32)
        return [
            Localization(phrase, None, "patches", None, heat, heat > 0, self.reason, 1.0, 0.5, side=side)
            for phrase in phrases
        ]


def text_of(made: Draft) -> str:
    return " ".join(statement.sentence.wording.text for statement in made.statements)


def test_a_draft_meets_its_contract_and_cites_sentences_of_the_index(calibrated: Index) -> None:
    stated = 0
    for image in IMAGES:
        made = draft(calibrated, image)
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


def test_a_finding_that_is_not_stated_is_not_assessed_and_never_absent(calibrated: Index) -> None:
    for image in IMAGES:
        made = draft(calibrated, image)
        stated = made.findings
        assert set(made.not_assessed) | set(stated) >= set(NAMES) - {"no_finding"}
        assert not set(made.not_assessed) & set(stated)
        absent = {name for name, status in stated.items() if status is Status.ABSENT}
        claimed = {
            n for s in made.statements for n, status in s.sentence.claims.items() if status is Status.ABSENT
        }
        assert absent == claimed | {v.finding for v in made.unworded if v.status is Status.ABSENT}


def test_a_draft_has_no_word_about_another_patient(calibrated: Index) -> None:
    for image in IMAGES:
        assert not NEVER.search(text_of(draft(calibrated, image)))


def test_a_side_is_a_question_unless_this_image_confirms_it(calibrated: Index) -> None:
    confirmed: set[str] = set()
    for image in IMAGES:
        blind = text_of(draft(calibrated, image)).lower()
        assert not re.search(r"\b(right|left|bilateral)", blind)
        sides: tuple[MaskLaterality, ...] = ("right", "left")
        for side in sides:
            made = draft(calibrated, image, phrase_localizer=SeenOn(side))
            assert not re.search(rf"\b({MIRRORED[side]}|bilateral)", text_of(made).lower())
            confirmed.update(side for s in made.statements if "side" in s.sentence.wording.confirmed)
    assert confirmed == {"right", "left"}


@pytest.mark.parametrize(
    "unreliable", [SeenOn("right", turns=False), SeenOn("right", reason="not calibrated")]
)
def test_a_map_that_does_not_follow_a_mirrored_image_or_is_qualified_confirms_nothing(
    calibrated: Index, unreliable: SeenOn
) -> None:
    for image in IMAGES:
        made = draft(calibrated, image, phrase_localizer=unreliable)
        assert not any(statement.sentence.wording.confirmed for statement in made.statements)


def test_a_draft_is_localized_only_by_a_calibrated_method(index: Index) -> None:
    assert localizer(index) is None
    count, dim = len(STATISTICS), index.active_version.dim
    references = References(np.zeros((1, 2, 2, dim), np.float32), np.zeros((1, dim), np.float32))
    written = []
    for method, present in (("gscorecam", 0.5), ("patches", 0.9), ("gradcam", 0.2)):
        rates = {"present": present}
        calibration = SpecificityCalibration(
            np.ones(count + 1), np.zeros(count), np.ones(count), 0.5, references, rates
        )
        written.append(
            save_calibration(calibration, index.active_version.fingerprint, method, index.home.folder)
        )
    try:
        calibrated_localizer = localizer(index)
    finally:
        for file in written:  # the index is of other tests, too
            file.unlink()
    assert isinstance(calibrated_localizer, partial)
    assert calibrated_localizer.keywords["method"] == "patches"
    assert calibrated_localizer.keywords["calibration"].rates == {"present": 0.9}


def test_the_images_own_subject_does_not_vote(calibrated: Index) -> None:
    made = draft(calibrated, "phantom://3/0")
    studies = calibrated.catalog.studies(s.study_id for st in made.statements for s in st.sentence.sources)
    own = calibrated.catalog.studies(["phantom:3-0"])["phantom:3-0"].subject_id
    assert own not in {study.subject_id for study in studies.values()}


def test_without_calibration_only_findings_of_nearly_all_neighbours_are_stated(index: Index) -> None:
    for image in IMAGES:
        made = draft(index, image)
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
def test_a_draft_without_neighbours_states_the_reason(calibrated: Index, where: str, reason: str) -> None:
    made = draft(calibrated, IMAGES[0], where=where)
    assert reason in str(made.reason)
    assert not made.statements
    assert reason in made.text()
    jsonschema.validate(json.loads(json.dumps(made.as_json())), SCHEMA)


def test_neighbours_with_the_same_sentence_are_cited_together(calibrated: Index) -> None:
    made = draft(calibrated, IMAGES[0], where="source=manifest and sex=F")
    texts = [statement.sentence.wording.text for statement in made.statements]
    assert len(texts) == len(set(texts))
    assert all(len(statement.sentence.sources) == 3 for statement in made.statements)
