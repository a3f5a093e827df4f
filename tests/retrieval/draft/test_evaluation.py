"""Drafts for a source are scored beside the baselines, in the contract's form."""

import json
from pathlib import Path

import jsonschema
import pytest

from corpus.errors import EvaluationError
from corpus.findings import make_statuses
from corpus.records import ImageRef, ProblemSink
from corpus.sources.phantom import PhantomSource
from indexer.index import Index
from retrieval.draft.baselines import BASELINES, most_frequent_report
from retrieval.draft.evaluation import draft_source, embedding_similarity, per_finding, score_drafts

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

CONTRACTS = Path(__file__).resolve().parents[3] / "docs" / "contracts"


class Broken(PhantomSource):
    """Phantoms with the first image missing."""

    def studies(self, on_problem: ProblemSink):  # type: ignore[no-untyped-def]
        for number, study in enumerate(super().studies(on_problem)):
            lost = ImageRef(study.images[0].item_id, "/nowhere/image.png")
            object.__setattr__(study, "images", (lost,) if number == 0 else study.images)
            yield study


def test_drafts_are_scored_beside_every_baseline(index: Index) -> None:
    truth = {f"phantom:8-{n}": make_statuses(present=["nodule"]) for n in range(4)}
    drafts = draft_source(index, Broken(4, seed=8), truth=truth)
    assert (len(drafts.drafted), drafts.failed) == (3, 1)
    record = score_drafts(drafts, draws=50)
    record["encoder"] = {"name": index.encoder.name, "fingerprint": index.encoder.fingerprint}
    for system, row in record["systems"].items():
        row["embedding_similarity"] = embedding_similarity(index, drafts, system)
    record["per_finding"] = per_finding(drafts.drafted)
    contract = json.loads(json.dumps(record))
    jsonschema.validate(contract, json.loads((CONTRACTS / "evaluate-drafts.schema.json").read_text()))
    assert set(contract["systems"]) == {"draft", *BASELINES}
    assert contract["systems"]["top_1"]["words"]["rouge_l"] > 0
    assert contract["per_finding"]["nodule"]["positives"] == 3


def test_the_baselines_are_scored_by_the_given_truth(index: Index) -> None:
    everyone = {study_id: make_statuses(present=["hernia"]) for study_id in index.catalog.study_ids()}
    drafts = draft_source(index, PhantomSource(2, seed=8), gallery_truth=everyone)
    for one in drafts.drafted:
        assert {one.claimed(name) for name in BASELINES} == {frozenset({"hernia"})}


def test_the_most_frequent_report_is_that_of_most_studies(index: Index) -> None:
    study = most_frequent_report(index)
    assert study is not None
    assert study.report is not None
    assert study.report.described == "The lungs are clear. Heart size is normal."


def test_a_source_without_an_image_cannot_be_scored(index: Index) -> None:
    with pytest.raises(EvaluationError, match="no image"):
        draft_source(index, Broken(1, seed=8))
