"""What a draft may state together: nothing twice, and nothing that another statement denies."""

from collections.abc import Iterable, Mapping, Sequence

from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status
from retrieval.draft.sentences import Sentence
from retrieval.draft.votes import Vote


def reconcile(votes: Iterable[Vote]) -> list[Vote]:
    """Of the votes that passed, those that can stand together, the likeliest first.

    A present finding stands before an absence that denies it. A normal film has no findings (devices
    apart): whichever of the two is likelier stands. Of a finding and what contains it, the narrower stands,
    unless the wider one is likelier by half: "opacity" adds nothing to "consolidation".
    """
    passed = sorted((v for v in votes if v.stated), key=lambda v: (-v.probability, v.finding))
    present = [v for v in passed if v.status is Status.PRESENT]
    normal = next((v for v in present if v.finding == NO_FINDING), None)
    findings = [v for v in present if v.finding != NO_FINDING]
    pathological = [v for v in findings if v.finding != SUPPORT_DEVICES]
    if normal is not None and pathological:
        if normal.probability > pathological[0].probability:
            findings = [v for v in findings if v.finding == SUPPORT_DEVICES]
        else:
            normal = None
    kept = [v for v in findings if not _said_narrower(v, findings)]
    named = {v.finding for v in kept}
    absent = [
        v
        for v in passed
        if v.status is Status.ABSENT and v.finding != NO_FINDING and not _denies(v.finding, named)
    ]
    return [*([] if normal is None else [normal]), *kept, *absent]


def unrepeated(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Leave out what an earlier sentence said, and what denies it."""
    kept: list[Sentence] = []
    said: dict[str, Status] = {}
    for sentence in sentences:
        if all(said.get(name) is status for name, status in sentence.claims.items()):
            continue
        if any(_contradicts(name, status, said) for name, status in sentence.claims.items()):
            continue
        said |= sentence.claims
        kept.append(sentence)
    return kept


def _said_narrower(vote: Vote, votes: Sequence[Vote]) -> bool:
    below = [other for other in votes if vote.finding in _above(other.finding)]
    return any(vote.probability <= 1.5 * other.probability for other in below)


def _denies(finding: str, present: set[str]) -> bool:
    """Whether calling a finding absent denies one of these."""
    return any(finding == name or finding in _above(name) for name in present)


def _contradicts(name: str, status: Status, said: Mapping[str, Status]) -> bool:
    if status is Status.ABSENT:
        return _denies(name, {other for other, told in said.items() if told is Status.PRESENT})
    denied = {other for other, told in said.items() if told is Status.ABSENT}
    return name in denied or any(above in denied for above in _above(name))


def _above(name: str) -> list[str]:
    chain = []
    parent = VOCABULARY.parent(name)
    while parent is not None:
        chain.append(parent)
        parent = VOCABULARY.parent(parent)
    return chain
