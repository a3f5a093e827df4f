"""What tests of the labeler share: what a text says of the findings named, read in both ways there are."""

from collections.abc import Mapping

from corpus.findings import Status
from corpus.language.assertion import locate, read_sentence
from corpus.language.labeler import label_text
from corpus.language.phrases import words
from corpus.language.sections import split_sentences

P, A, U = Status.PRESENT, Status.ABSENT, Status.UNCERTAIN


def assert_says(text: str, expected: Mapping[str, Status | None]) -> None:
    """The text gives each finding its status (None: unmentioned), and `locate` finds the same claims."""
    statuses = label_text(text)
    assert {f: statuses.get(f) for f in expected} == dict(expected)
    for sentence in split_sentences(text):
        read = [(f, s) for f, s, _ in read_sentence(sentence).findings]
        located = [(c.finding, c.status) for st in locate(words(sentence)) for c in st.findings]
        assert read == located, sentence
