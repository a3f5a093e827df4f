"""Cases as cards of the page: findings as chips, and the reasons why a hit is in the answer."""

from corpus.findings import NO_FINDING, VOCABULARY, Statuses, status_lists
from retrieval.answer import Answer, Hit
from retrieval.demo.page import Card, Chip, inline_radiograph


def label(finding: str) -> str:
    """A finding's name as it is written."""
    return "normal" if finding == NO_FINDING else finding.replace("_", " ")


def chips(statuses: Statuses, query: Statuses | None = None) -> tuple[Chip, ...]:
    """The findings worth showing: those present or uncertain, without the parents of those shown.

    Args:
        statuses: of the case.
        query: findings of the query; those present in both are marked.
    """
    listed = status_lists(statuses)
    wanted = set(status_lists(query)["present"]) if query is not None else set()
    parents = {parent for name in listed["present"] for parent in VOCABULARY.ancestors(name)}
    present = [name for name in listed["present"] if name not in parents]
    uncertain = [name for name in listed["uncertain"] if name not in parents]
    return (
        *(Chip(label(name), "present", name in wanted) for name in present),
        *(Chip(label(name) + "?", "uncertain") for name in uncertain),
    )


def card_of(hit: Hit, query: Statuses | None, single: bool) -> Card:
    """Show a hit. `single`: its score is a cosine (one list), not a fusion."""
    case = hit.case
    best = {evidence.kind: evidence for evidence in reversed(hit.evidence)}
    because = []
    for kind in ("image", "report", "sentence"):
        if kind in best:
            quotation = f": “{best[kind].text}”" if best[kind].text else ""
            because.append(f"{kind} {best[kind].score:.2f}{quotation}")
    age, sex = case.attributes.get("age"), case.attributes.get("sex")
    return Card(
        title=case.study_id,
        image=None if case.path is None else inline_radiograph(case.path),
        chips=chips(case.findings, query),
        text=case.text,
        rank=hit.rank,
        score=f"{hit.score:.2f}" if single else f"{hit.score:.2f} fused",
        because=tuple(because),
        about=" · ".join(str(part) for part in (sex, age if age is None else f"{age:g} y") if part),
    )


def agreement(answer: Answer, query: Statuses) -> list[bool]:
    """Whether each hit shares a present finding with the query."""
    wanted = set(status_lists(query)["present"])
    return [bool(wanted & set(status_lists(hit.case.findings)["present"])) for hit in answer.hits]
