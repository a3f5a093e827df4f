"""The words of a report that affirm something: what may be counted as its words.

Ranking by words finds "no effusion" first for "effusion", because the short sentence says little else. So
only what is affirmed is kept: a statement that denies all it names is left out, and of a statement that
affirms one finding and denies another ("consolidation without effusion") the denied one's own words are.
What names no finding at all stays.
"""

from collections.abc import Iterator

from corpus.findings import Status
from corpus.language.assertion import locate
from corpus.language.detection import Reader, lexicon_of
from corpus.language.labeler import film_sentences
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.records import Report


def affirmed_text(report: Report) -> str:
    """Return the affirmed words of what a report says of the film: lower case, in order, one blank between.

    Empty where everything is denied, and where the report's language has no lexicon. Time grows with the
    length of the report.
    """
    lexicon = lexicon_of(report.language)
    if lexicon is None:
        return ""
    reader = Reader(lexicon, report.described)
    return " ".join(
        word
        for section in report.sections
        for sentence in film_sentences(section, lexicon)
        for word in affirmed_words(sentence, reader.of(sentence))
    )


def affirmed_words(sentence: str, lexicon: Lexicon = ENGLISH) -> Iterator[str]:
    """Yield the affirmed words of one sentence, without its signs.

    Function words of a language other than English are left out: what counts words leaves out English ones.
    """
    told = _affirmed_words(sentence, lexicon)
    yield from told if lexicon.language == "en" else (word for word in told if word not in lexicon.common)


def _affirmed_words(sentence: str, lexicon: Lexicon) -> Iterator[str]:
    tokens = lexicon.tokens(sentence)
    statements = locate(tokens, lexicon)
    if not statements:  # no word of a finding, a structure or a claim in it
        yield from (token for token in tokens if token[0].isalnum())
    for statement in statements:
        denied = [claim for claim in statement.findings if claim.status is Status.ABSENT]
        if denied and len(denied) == len(statement.findings):
            continue
        hidden: set[int] = set()
        for claim in denied:
            start = claim.start
            while start > statement.start and tokens[start - 1] in lexicon.denying:
                start -= 1
            hidden.update(range(start, claim.end))
        for place in range(statement.start, statement.end):
            if place not in hidden and tokens[place][0].isalnum():
                yield tokens[place]
