"""Accuracy and speed of the rule labeler, on real reports with hand-made ground truth.

    python -m benchmarks.labeler --data ../shared/data

The reports are split in two by a hash of their number: rules were written from the tuning half only; the
held-out half is scored and never read. The baseline in the same run is a keyword labeler ("no" or "without"
before the keyword denies it). Speed is whole reports on one core, nothing cached between reports. Errors are
counted by kind, derived from the label and the baseline's keywords, so that the held-out reports stay unread.
"""

import argparse
import hashlib
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from corpus.findings import VOCABULARY, Status, Statuses
from corpus.language.labeler import LABELER_VERSION, label_report
from corpus.language.sections import split_sentences
from corpus.records import Report, Section
from corpus.truth import read_truth, score_labels

Half = Literal["tuning", "held-out"]
HALVES: tuple[Half, ...] = ("tuning", "held-out")
AT_LEAST = 20
"""A finding counts in the averages if the ground truth has at least this many positives of it."""

_KEYWORDS = {
    "atelectasis": "atelecta",
    "cardiomegaly": "cardiomegaly|enlarged heart|heart is enlarged|cardiac enlargement",
    "pleural_effusion": "effusion|pleural fluid",
    "infiltration": "infiltrat",
    "mass": r"mass\b|masses",
    "nodule": "nodul",
    "pneumonia": "pneumonia",
    "pneumothorax": "pneumothora",
    "consolidation": "consolidat",
    "edema": "edema",
    "emphysema": "emphysema",
    "fibrosis": "fibrosis|fibrotic",
    "pleural_thickening": "pleural thickening",
    "hernia": "hernia",
}
_NAIVE = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _KEYWORDS.items()}
_NO = re.compile(r"\b(?:no|without)\b", re.IGNORECASE)


_DOUBT = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|likely|may|might|could|question\w*|suspect\w*|suspicious|concern\w*|"
    r"suggest\w*|versus|cannot|exclude\w*|equivocal)\b",
    re.IGNORECASE,
)


def half(uid: str) -> Half:
    """Return the half of a report: by the first byte of the SHA-256 of its number, even is tuning."""
    return HALVES[hashlib.sha256(uid.encode()).digest()[0] % 2]


def read_reports(folder: Path) -> dict[str, Report]:
    """Read findings and impression of every Open-i report: study id → report. No code column is read."""
    table = pl.read_csv(folder / "indiana_reports.csv", columns=["uid", "findings", "impression"])
    reports: dict[str, Report] = {}
    for uid, findings, impression in table.iter_rows():
        columns = (("findings", findings), ("impression", impression))
        sections = tuple(Section(name, text) for name, text in columns if text)
        reports[f"openi:{uid}"] = Report(f"openi:{uid}#report", sections)
    return reports


def label_naively(report: Report) -> Statuses:
    """The baseline: a keyword is present unless "no" or "without" stands before it in its sentence."""
    statuses: dict[str, Status] = {}
    for sentence in split_sentences(report.described):
        denial = _NO.search(sentence)
        for name, keyword in _NAIVE.items():
            found = keyword.search(sentence)
            if found and not (denial and denial.start() < found.start()):
                statuses[name] = Status.PRESENT
            elif found:
                statuses.setdefault(name, Status.ABSENT)
    return VOCABULARY.spread(statuses)


def score_half(
    reports: Mapping[str, Report], truth: Path, side: Half, label: Callable[[Report], Statuses]
) -> dict[str, Any]:
    """Score a labeler on one half: what `corpus.truth.score_labels` returns."""
    labels = {
        study: label(report) for study, report in reports.items() if half(study.partition(":")[2]) == side
    }
    return score_labels(labels, read_truth(truth), at_least=AT_LEAST)


def error_kind(report: Report, finding: str, status: Status, positive: bool) -> str | None:
    """Name what is wrong with a label, or None where nothing is.

    Args:
        report: what was labelled.
        finding: one that the naive labeler has a keyword for.
        status: its label.
        positive: whether the ground truth has it.
    """
    if positive == (status is Status.PRESENT):
        return None
    if status is Status.ABSENT:
        return "missed: called absent"
    if status is Status.UNCERTAIN:
        return "missed: called uncertain"
    named = [s for s in split_sentences(report.described) if _NAIVE[finding].search(s)]
    if positive:
        return "missed: named, and not read" if named else "missed: said in other words"
    if not named:
        return "over-called: said in other words"
    if all(_NO.search(s) for s in named):
        return "over-called: only beside a denial"
    if all(_DOUBT.search(s) or _NO.search(s) for s in named):
        return "over-called: only beside a doubt"
    return "over-called: named plainly"


def count_errors(
    reports: Mapping[str, Report], truth: Path, side: Half, findings: Sequence[str]
) -> Counter[tuple[str, str]]:
    """Count the rules' errors on one half: (kind, finding) → how many."""
    gold = read_truth(truth).statuses
    errors: Counter[tuple[str, str]] = Counter()
    for study, report in reports.items():
        if half(study.partition(":")[2]) != side or study not in gold:
            continue
        labels = label_report(report)
        for finding in findings:
            if finding in gold[study]:
                positive = gold[study][finding] is Status.PRESENT
                kind = error_kind(report, finding, labels.get(finding, Status.UNMENTIONED), positive)
                if kind is not None:
                    errors[kind, finding] += 1
    return errors


def measure_speed(reports: Mapping[str, Report], repeats: int = 3) -> float:
    """Reports a second, the best of a few passes over all."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        for report in reports.values():
            label_report(report)
        best = min(best, time.process_time() - began)
    return len(reports) / best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds openi/ and openi-truth/"
    )
    folder: Path = parser.parse_args().data
    reports = read_reports(folder / "openi")
    truth = folder / "openi-truth" / "openi_gold_std14.csv"
    scores = {
        (who, side): score_half(reports, truth, side, label)
        for who, label in (("rules", label_report), ("naive", label_naively))
        for side in HALVES
    }
    print(f"Labeler version {LABELER_VERSION} on {len(reports)} Open-i reports")
    print(f"{'':8}{'half':10}{'reports':>8}{'precision':>11}{'recall':>8}{'micro F1':>10}{'macro F1':>10}")
    for (who, side), score in scores.items():
        micro, macro = score["micro"], score["macro"]
        print(
            f"{who:8}{side:10}{score['studies']:8d}{micro['precision']:11.3f}{micro['recall']:8.3f}"
            f"{micro['f1']:10.3f}{macro['f1']:10.3f}"
        )
    held_out = scores["rules", "held-out"]
    print(f"\nheld-out half, findings with at least {AT_LEAST} positives in the whole table")
    print(f"{'finding':22}{'positives':>10}{'precision':>11}{'recall':>8}{'F1':>7}{'naive F1':>10}")
    for name in held_out["averaged"]:
        row, naive = held_out["findings"][name], scores["naive", "held-out"]["findings"][name]
        print(
            f"{name:22}{row['positives']:10d}{row['precision']:11.3f}{row['recall']:8.3f}{row['f1']:7.3f}"
            f"{naive['f1']:10.3f}"
        )
    errors = count_errors(reports, truth, "held-out", held_out["averaged"])
    print(f"\nheld-out half, the {errors.total()} errors on these findings by kind")
    for kind in sorted({kind for kind, _ in errors}):
        of = Counter({name: count for (same, name), count in errors.items() if same == kind})
        listed = ", ".join(f"{name} {count}" for name, count in of.most_common(4))
        print(f"{kind:36}{of.total():4d}   {listed}{', …' if len(of) > 4 else ''}")
    print(f"\n{measure_speed(reports):,.0f} reports/s on one core, nothing cached")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
