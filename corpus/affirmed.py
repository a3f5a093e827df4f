"""The words of a report that affirm something: what may be counted as its words.

Ranking by words finds "no effusion" first for "effusion", because the short sentence says little else. So
only what is affirmed is kept: a statement that denies all it names is left out, and of a statement that
affirms one finding and denies another ("consolidation without effusion") the denied one's own words are.
What names no finding at all stays.
"""

from collections.abc import Iterator

from corpus.assertions import locate
from corpus.findings import Status
from corpus.labeler import film_sentences
from corpus.phrases import words
from corpus.records import Report

_DENYING = frozenset(
    ["no", "not", "nor", "without", "or", "and", "any", "evidence", "of", "for", "the", "a", "an"]
)
"""Words that lead to what is denied, and go with it."""


def affirmed_text(report: Report) -> str:
    """Return the affirmed words of what a report says of the film: lower case, in order, one blank between.

    Empty where everything is denied. Time grows with the length of the report.
    """
    return " ".join(
        word
        for section in report.sections
        for sentence in film_sentences(section)
        for word in affirmed_words(sentence)
    )


def affirmed_words(sentence: str) -> Iterator[str]:
    """Yield the affirmed words of one sentence, without its signs."""
    tokens = words(sentence)
    statements = locate(tokens)
    if not statements:  # no word of a finding, a structure or a claim in it
        yield from (token for token in tokens if token[0].isalnum())
    for statement in statements:
        denied = [claim for claim in statement.findings if claim.status is Status.ABSENT]
        if denied and len(denied) == len(statement.findings):
            continue
        hidden: set[int] = set()
        for claim in denied:
            start = claim.start
            while start > statement.start and tokens[start - 1] in _DENYING:
                start -= 1
            hidden.update(range(start, claim.end))
        for place in range(statement.start, statement.end):
            if place not in hidden and tokens[place][0].isalnum():
                yield tokens[place]
