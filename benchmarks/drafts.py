"""Drafts for radiographs of subjects that the encoder was not trained on, from reports of other subjects.

    python -m benchmarks.drafts --data ../shared/data --encoder runs/real [--phantom runs/phantom]

Gallery: every Open-i report. Queries: the ChestX-ray14 images of held-out subjects, in two halves by
subject; each half is drafted in an index with the other half's images, which calibrate the votes. So
nothing is tuned on the subjects of the drafts. Ground truth: the ChestX-ray14 table for the findings that a
draft states (never our labeler), the hand-made Open-i gold for the baselines' reports and the drafts'
sources. Forbidden words are counted by a list of this script's own. Intervals: bootstrap over subjects.
"""

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import describe_machine
from corpus.language.concepts import sentence_concepts
from corpus.phantom.scene import scene
from corpus.records import ProblemSink, Source, Study
from corpus.sources import open_source
from corpus.splits import fold_of, split_of
from corpus.truth import Truth, read_truth
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.draft.baselines import BASELINES
from retrieval.draft.draft import draft
from retrieval.draft.evaluation import OURS, Drafted, Drafts, draft_source, per_finding, score_drafts
from retrieval.reliability.fit import calibrate

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

FORBIDDEN = re.compile(
    r"\b(?:stable|unchanged|again|persist\w*|prior|previous\w*|compar\w*|interval|earlier|since|new|newly|now|"
    r"increas\w*|decreas\w*|improv\w*|worse\w*|resol[uv]\w*|progress\w*|still|remain\w*|chang\w*|chronic|"
    r"x{3,}|dr|mr|mrs|patient|year|old|aged?|male|female|man|woman|mm|cm|centimeters?|today|yesterday|"
    r"january|february|march|april|june|july|august|september|october|november|december|history|post|"
    r"recommend\w*|follow|discussed|ct|mri|lateral view)\b|\d|[<>{}@]",
    re.IGNORECASE,
)
SYSTEMS = (OURS, *BASELINES)
PHANTOMS = 120


class HeldOutHalf:
    """The studies of one half of the held-out subjects."""

    def __init__(self, source: Source, half: int) -> None:
        self.name = source.name
        self._source, self._half = source, half

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield them."""
        for study in self._source.studies(on_problem):
            if split_of(study.subject_id) == "test" and fold_of(study.subject_id, 2) == self._half:
                yield study


def index_gallery(home: Path, data: Path, encoder: "Encoder", folder: str) -> None:
    """Index Open-i into a home, if it is not there yet."""
    with Index.open(home, read_only=False) as index:
        add_source(index, open_source(f"openi:{data / 'openi'}"), encoder, origin="openi", folder=folder)


def draft_half(
    half: int, home: Path, data: Path, encoder: "Encoder", folder: str, gold: Truth
) -> tuple[Drafts, int]:
    """Draft for half of the held-out subjects in an index with the other half; and the calibrating images."""
    images = open_source(f"nih-chestxray14:{data / 'nih-chestxray14'}")
    with Index.open(home, read_only=False) as index:
        others = HeldOutHalf(images, 1 - half)
        add_source(index, others, encoder, origin="others", folder=folder)
        index.use(encoder)
        learned = calibrate(index)
        return draft_source(index, HeldOutHalf(images, half), gallery_truth=gold.statuses), learned.images


def print_findings(drafted: Sequence[Drafted]) -> None:
    """The first table: findings by the ChestX-ray14 table."""
    scores = score_drafts(Drafts(tuple(drafted), 0, 0))
    subjects = len({one.study.subject_id for one in drafted})
    print(f"{len(drafted)} radiographs of {subjects} held-out subjects; micro F1 over the table's findings")
    print(f"{'':18}{'precision':>10}{'recall':>8}{'F1':>7}{'95 %':>16}{'draft ahead by':>24}", end="")
    print(f"{'findings':>10}{'words':>7}")
    for system in SYSTEMS:
        row = scores["systems"][system]
        found, ahead = row["findings"], row.get("draft_ahead_by")
        lead = f"{ahead['f1']:+.3f} ({ahead['ci95'][0]:+.3f} … {ahead['ci95'][1]:+.3f})" if ahead else ""
        cells = (
            f"{found['precision']:10.3f}{found['recall']:8.3f}{found['f1']:7.3f}",
            f"{found['ci95'][0]:8.3f} … {found['ci95'][1]:.3f}",
            f"{lead:>24}{row['claimed']:10.2f}{row['length']:7.1f}",
        )
        print(f"{system.replace('_', ' '):18}" + "".join(cells))
    print(f"drafts that state nothing: {scores['undrafted']}")
    for name, row in per_finding(drafted).items():
        line = "  ".join(f"{score} {row[score]:.2f}" for score in ("precision", "recall", "f1"))
        print(f"  {name:20} in {row['positives']:3d}  {line}")


def print_sources(drafted: Sequence[Drafted], gold: Truth) -> None:
    """The second: whether the cited reports have, by the gold, the finding of the sentence."""
    with_finding = cited = whole = sentences = 0
    for one in drafted:
        for statement in one.draft.statements:
            vote = statement.votes[0]
            if vote.finding not in gold.findings:
                continue
            agree = [
                gold.of(source.study_id).get(vote.finding) is vote.status
                for source in statement.sentence.sources
                if gold.of(source.study_id)
            ]
            with_finding, cited = with_finding + sum(agree), cited + len(agree)
            whole, sentences = whole + all(agree), sentences + 1
    print(
        f"cited reports with the finding by gold: {with_finding} of {cited} "
        f"({with_finding / max(cited, 1):.3f}); ",
        end="",
    )
    print(f"sentences where all sources have it: {whole} of {sentences} ({whole / max(sentences, 1):.3f})")


def print_words(drafted: Sequence[Drafted]) -> None:
    """The third: words that no draft may contain, in drafts and in the reports that were copied."""
    for system in SYSTEMS:
        texts = [one.text(system) for one in drafted]
        hits = [match[0] for text in texts for match in FORBIDDEN.finditer(text)]
        words = sum(len(text.split()) for text in texts)
        print(f"forbidden words, {system.replace('_', ' '):18} {len(hits):5d} among {words} words")


def print_sides(encoder: "Encoder", folder: str) -> None:
    """The fourth: sides that drafts of phantoms state, against the sides of their lesions.

    Maps are calibrated on other phantoms.
    """
    from retrieval.localize.localizer import localize
    from retrieval.localize.specificity.calibration_fit import calibrate as calibrate_maps

    left_to_reader = 0
    sides_right: list[bool | None] = []  # right, wrong, or None: of a finding that is absent
    thresholds = calibrate_maps(encoder, open_source("phantom:140@43").studies(lambda _: None), "patches")
    localizer = partial(localize, method="patches", calibration=thresholds)
    with tempfile.TemporaryDirectory() as home, Index.open(Path(home), read_only=False) as index:
        add_source(index, open_source("phantom:600@41"), encoder, origin="phantoms", folder=folder)
        index.use(encoder)
        calibrate(index)
        for number in range(PHANTOMS):
            made = draft(index, f"phantom://47/{number}", phrase_localizer=localizer)
            for statement in made.statements:
                finding, wording = statement.sentence.finding, statement.sentence.wording
                left_to_reader += "side" in wording.questions
                if "side" in wording.confirmed:
                    of = {les.side for les in scene(47, number).lesions if les.finding == finding}
                    side = "bilateral" if len(of) > 1 else next(iter(of), None)
                    stated = {c.side for c in sentence_concepts(wording.text) if c.finding == finding}
                    sides_right.append(None if side is None else stated == {side})
    there = len(sides_right) - sides_right.count(None)
    print(f"phantoms: {PHANTOMS} drafts; sides stated of present findings {there}, ", end="")
    print(f"right {sides_right.count(True)}; of absent findings {sides_right.count(None)}; ", end="")
    print(f"left to the reader {left_to_reader}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="runs/real")
    parser.add_argument("--phantom", help="an encoder of phantoms, for the sides")
    parser.add_argument("--gallery", type=Path, help="home with Open-i by this encoder; made if absent")
    options = parser.parse_args()
    from trainer.runtime.encoder import (
        Encoder,  # here: a decode process reads this module, too, and needs no torch
    )

    encoder = Encoder.load(options.encoder)
    gold = read_truth(options.data / "openi-truth" / "openi_gold_std14.csv")
    drafted: list[Drafted] = []
    with tempfile.TemporaryDirectory() as folder:
        gallery = options.gallery or Path(folder) / "gallery"
        index_gallery(gallery, options.data, encoder, options.encoder)
        for half in (0, 1):
            home = Path(folder) / f"half{half}"
            shutil.copytree(gallery, home)
            drafts, images = draft_half(half, home, options.data, encoder, options.encoder, gold)
            print(f"half {half}: {len(drafts.drafted)} drafts, votes calibrated on {images} images", end="")
            print(" of the other half")
            drafted += drafts.drafted
    print_findings(drafted)
    print_sources(drafted, gold)
    print_words(drafted)
    if options.phantom is not None:
        print_sides(Encoder.load(options.phantom), options.phantom)
    print(f"machine: {describe_machine()}")


if __name__ == "__main__":
    main()
