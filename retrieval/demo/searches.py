"""The searches of the demonstration: one of each kind, on films and phrases the index does not hold."""

import shlex
from collections import Counter
from dataclasses import dataclass

from corpus.errors import UsageError
from corpus.findings import Statuses, sides
from corpus.language.labeler import label_text
from corpus.phantom import Scene, describe, scene
from corpus.redaction import redacted
from indexer.index import Index
from retrieval.answer import Answer
from retrieval.demo.images import inline_png
from retrieval.demo.page import Card, Panel, agreement, card_of, chips
from retrieval.query.query import Query
from retrieval.search import search

K = 5
_LOOKED_AT = 120  # scenes among which the one that shows a finding best is the query


@redacted
@dataclass(frozen=True, slots=True)
class Question:
    """One search of the page."""

    heading: str
    explanation: str
    query: Query
    findings: Statuses
    asked: Scene | None = None


def questions(archive_seed: int, archive: int, new_seed: int) -> list[Question]:
    """One search of each kind, with the findings that the query is known to show.

    Args:
        archive_seed: cohort that is indexed.
        archive: how many studies it has.
        new_seed: cohort of people who are not in the index.
    """
    effusion = showing(new_seed, _LOOKED_AT, "pleural_effusion")
    pneumothorax = showing(new_seed, _LOOKED_AT, "pneumothorax")
    heart = showing(new_seed, _LOOKED_AT, "cardiomegaly")
    repeated = showing(
        archive_seed, archive, "pleural_effusion", "cardiomegaly", "pneumothorax", filmed_twice=True
    )
    return [
        Question(
            "Image to cases",
            "A new film asks for whole cases: films that look like it, and reports whose words fit it, "
            "fused by rank.",
            Query(image=_address(effusion), target="cases", k=K),
            effusion.statuses,
            effusion,
        ),
        Question(
            "Image to reports",
            "A new film asks for words: the reports and single sentences that lie nearest to it.",
            Query(image=_address(pneumothorax), target="reports", k=K),
            pneumothorax.statuses,
            pneumothorax,
        ),
        _phrase(
            "Text to images",
            "A phrase asks for films. No film was ever labelled with it.",
            "There is a large right pleural effusion.",
            "images",
        ),
        _phrase(
            "Text to reports",
            "The same space compares words with words.",
            "Dense consolidation in the left lower zone.",
            "reports",
        ),
        Question(
            "Case to cases",
            "A case of the index asks for others like it, by its stored film and report. The subject's own "
            "studies are kept apart.",
            Query(case=repeated.study_id, target="cases", k=K),
            repeated.statuses,
            repeated,
        ),
        Question(
            "Image to cases, filtered",
            "The same kind of question, only among women of 60 and more without a pneumothorax: the filter "
            "runs inside the vector store.",
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


def panel(index: Index, question: Question) -> Panel:
    """Run a search and lay its answer out."""
    answer = search(index, question.query)
    took = answer.took
    own = ", ".join(case.study_id for case in answer.own_studies)
    encoding = took.decode + took.encode
    return Panel(
        heading=question.heading,
        explanation=question.explanation,
        command=command(question.query),
        query=_query_card(question),
        hits=tuple(card_of(hit, question.findings, _is_cosine(answer)) for hit in answer.hits),
        agreeing=agreement(answer, question.findings) + (f" · own studies, set apart: {own}" if own else ""),
        took=f"encoding {encoding:.0f} ms · search {took.total - encoding:.0f} ms",
    )


def command(query: Query) -> str:
    """The search as one types it."""
    words = ["similarity", "search"]
    for option, value in (("--image", query.location), ("--text", query.text), ("--case", query.case)):
        words += [option, value] if value is not None else []
    words += ["--for", query.target, "-k", str(query.k)]
    return shlex.join([*words, "--where", query.where] if query.where is not None else words)


def showing(seed: int, count: int, *findings: str, filmed_twice: bool = False) -> Scene:
    """The scene that shows one finding, and nothing else, at its largest.

    Args:
        seed: of the cohort.
        count: how many of its scenes to look at.
        findings: the finding; those after the first are for a cohort that does not have it.
        filmed_twice: take only people of whom the cohort has two films.

    Raises:
        UsageError: the cohort is too small to have one.
    """
    scenes = [scene(seed, number) for number in range(count)]
    films = Counter(drawn.subject_id for drawn in scenes)
    plain = [
        drawn
        for drawn in scenes
        if len(drawn.lesions) == 1 and (films[drawn.subject_id] > 1 or not filmed_twice)
    ]
    for finding in findings:
        fitting = [drawn for drawn in plain if finding in sides(drawn.statuses)["present"]]
        if fitting:
            return max(fitting, key=lambda drawn: drawn.lesions[0].size)
    raise UsageError(f"{count} phantoms are too few to show {findings[0]}: take more with --studies")


def _phrase(heading: str, explanation: str, text: str, target: str) -> Question:
    query = Query(text=text, target=target, k=K)  # type: ignore[arg-type]
    return Question(heading, explanation, query, label_text(text))


def _query_card(question: Question) -> Card:
    drawn = question.asked
    if drawn is None:
        return Card("", None, chips(question.findings), question.query.text)
    return Card(
        title=drawn.study_id if question.query.case else f"{question.query.image}, not in the index",
        picture=inline_png(_address(drawn)),
        chips=chips(question.findings),
        text=describe(drawn).text if question.query.case else None,
        about=f"{drawn.sex} · {drawn.age} y",
    )


def _address(drawn: Scene) -> str:
    return f"phantom://{drawn.seed}/{drawn.number}"


def _is_cosine(answer: Answer) -> bool:
    return answer.query["for"] == "images" and "case" not in answer.query
