"""The searches of the demonstration: one of each kind, on radiographs and phrases that the index lacks."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from corpus.errors import UsageError
from corpus.findings import Statuses, status_lists
from corpus.language.labeler import label_text
from corpus.phantom import Scene, describe, scene
from corpus.redaction import redacted
from indexer.index import Index
from retrieval.answer import Answer
from retrieval.demo.cards import agreement, card_of, chips
from retrieval.demo.page import Card, Panel, inline_radiograph
from retrieval.demo.plan import Plan
from retrieval.query.query import Query
from retrieval.reliability.conformal import LEVEL
from retrieval.search import search

K = 5
_CANDIDATES = 120  # scenes among which the one that shows a finding best is the query


@redacted
@dataclass(frozen=True, slots=True)
class Question:
    """One search of the page. `findings`: what the query shows. `scene`: what its radiograph shows, drawn."""

    heading: str
    explanation: str
    query: Query
    findings: Statuses
    scene: Scene | None = None


def questions(plan: Plan) -> list[Question]:
    """One search of each kind, with the findings that the query shows; the first is image to cases.

    Raises:
        UsageError: the cohorts are too small to have such queries.
    """
    new = plan.held_out_seed
    consolidation = showing(new, _CANDIDATES, "consolidation")
    pneumothorax = showing(new, _CANDIDATES, "pneumothorax")
    heart = showing(new, _CANDIDATES, "cardiomegaly")
    repeated = showing(
        plan.archive_seed, plan.archive, "pleural_effusion", "cardiomegaly", "pneumothorax", follow_up=True
    )
    return [
        Question(
            "From an image to similar cases",
            "A new radiograph is compared with the radiographs and with the reports of the archive; both "
            "lists are fused by rank.",
            Query(image=_address(consolidation), target="cases", k=K),
            consolidation.statuses,
            consolidation,
        ),
        Question(
            "Image to reports",
            "A new radiograph, compared with reports and their single sentences.",
            Query(image=_address(pneumothorax), target="reports", k=K),
            pneumothorax.statuses,
            pneumothorax,
        ),
        _phrase(
            "Text to images",
            "A phrase, compared with the radiographs alone: their reports play no part.",
            "There is a large right pleural effusion.",
            "images",
        ),
        _phrase(
            "Text to reports",
            "A phrase, compared with reports and their sentences.",
            "Dense consolidation in the left lower zone.",
            "reports",
        ),
        Question(
            "Case to cases",
            "A case of the archive, compared with the others by its radiograph and report. The patient's own "
            "studies are listed apart.",
            Query(case=repeated.study_id, target="cases", k=K),
            repeated.statuses,
            repeated,
        ),
        Question(
            "Image to cases, filtered",
            "Only women of 60 and older without a pneumothorax: the filter runs inside the vector store.",
            Query(
                image=_address(heart),
                target="cases",
                k=K,
                where="sex=F and age>=60 and not finding=pneumothorax",
            ),
            heart.statuses,
            heart,
        ),
    ]


def answer_panel(question: Question, answer: Answer) -> Panel:
    """Lay out a question and its answer."""
    took = answer.took
    own = ", ".join(case.study_id for case in answer.own_studies)
    encoding = took.decode + took.encode
    agrees = agreement(answer, question.findings)
    return Panel(
        heading=question.heading,
        explanation=question.explanation,
        command=command(question.query),
        query=query_card(question),
        hits=tuple(card_of(hit, question.findings, _is_cosine(answer)) for hit in answer.hits),
        agreement=f"{sum(agrees)} of {len(agrees)} share a finding with the query"
        + (f" · the patient's own studies, set apart: {own}" if own else ""),
        first_agrees=agrees[:1] == [True],
        took=f"encoding {encoding:.0f} ms · search {took.total - encoding:.0f} ms",
        note=_promise(answer),
    )


def run_searches(index: Index, chosen: Sequence[Question]) -> list[Answer]:
    """Answer every question, after two searches that warm the encoder up: their times would mislead."""
    search(index, Query(image="phantom://0/0", k=1))
    search(index, Query(text="effusion", k=1))
    return [search(index, question.query) for question in chosen]


def command(query: Query) -> str:
    """The search as it is typed."""
    words = ["similarity", "search"]
    for option, value in (("--image", query.location), ("--text", query.text), ("--case", query.case)):
        words += [option, value] if value is not None else []
    words += ["--for", query.target, "-k", str(query.k)]
    return shlex.join([*words, "--where", query.where] if query.where is not None else words)


def showing(seed: int, count: int, *findings: str, follow_up: bool = False) -> Scene:
    """The scene that shows one finding, and nothing else, at its largest.

    Args:
        seed: of the cohort.
        count: how many of its scenes to consider.
        findings: the finding; those after the first are for a cohort that does not have it.
        follow_up: take only patients of whom the cohort has two studies.

    Raises:
        UsageError: the cohort is too small to have one.
    """
    scenes = [scene(seed, number) for number in range(count)]
    studies = Counter(drawn.subject_id for drawn in scenes)
    plain = [
        drawn
        for drawn in scenes
        if len(drawn.lesions) == 1 and (studies[drawn.subject_id] > 1 or not follow_up)
    ]
    for finding in findings:
        fitting = [drawn for drawn in plain if finding in status_lists(drawn.statuses)["present"]]
        if fitting:
            return max(fitting, key=lambda drawn: drawn.lesions[0].size)
    raise UsageError(f"{count} phantoms are too few to show {findings[0]}: take more with --studies")


def query_card(question: Question) -> Card:
    """Show the query: its radiograph and what it is known to show, or its phrase."""
    drawn = question.scene
    if drawn is None:
        return Card("", None, chips(question.findings), question.query.text)
    return Card(
        title=drawn.study_id if question.query.case else f"{question.query.location}, not in the archive",
        image=inline_radiograph(_address(drawn)),
        chips=chips(question.findings),
        text=describe(drawn).text if question.query.case else None,
        about=f"{drawn.sex} · {drawn.age} y",
    )


def _promise(answer: Answer) -> str:
    """Return the answer's reason, with what a guarantee means where it gives one."""
    if answer.reason is None or answer.abstained is not False:
        return answer.reason or ""
    return f"{answer.reason} A statement of this kind is right in at least {LEVEL * 10:.0f} of 10 searches."


def _phrase(heading: str, explanation: str, text: str, target: str) -> Question:
    query = Query(text=text, target=target, k=K)  # type: ignore[arg-type]
    return Question(heading, explanation, query, label_text(text))


def _address(drawn: Scene) -> str:
    return f"phantom://{drawn.seed}/{drawn.number}"


def _is_cosine(answer: Answer) -> bool:
    return answer.query["for"] == "images" and "case" not in answer.query
