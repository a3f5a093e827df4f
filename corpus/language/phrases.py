"""Phrases in a sentence, found in one pass: a trie over words, longest match first.

One pass over the words of a sentence finds every finding, structure and trigger at once, in time linear in
the sentence; a pattern per phrase would read the sentence hundreds of times.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, Generic, NamedTuple, TypeVar

from corpus.language.forms import fill_form

Meaning = TypeVar("Meaning")

_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[,:./()&?¿]")
_LEADING_QUESTION = re.compile(r"(?<![^\s(])\?+(?=\s?[^\W\d_])")  # "?pneumonia", "base ? pneumonia"


def words(text: str) -> list[str]:
    """Return the lower-case words, numbers, and signs; a hyphen is a blank, a semicolon a full stop.

    Ticks and signs of a form are resolved first (`corpus.language.forms`); a question mark before a word
    becomes `¿`.
    """
    text = fill_form(text)
    if "?" in text:
        text = _LEADING_QUESTION.sub("¿", text)
    text = text.lower().replace("’", "'").replace("can't", "cannot").replace("n't", " not").replace(";", ".")
    return _TOKEN.findall(text)


Choices = Sequence[tuple[str, ...]]
"""The words that each position of a template may have; an empty one where the position may be empty."""


def choices_of(template: str) -> Choices:
    """Return the choices of a template.

    Words are separated by blanks; `a|b` is either word, a trailing `?` makes a word optional: `pleural?
    effusion|effusions` stands for four phrases. A `?` alone is the sign itself.
    """
    choices: list[tuple[str, ...]] = []
    for part in template.split():
        optional = len(part) > 1 and part.endswith("?")
        options = tuple(part[: -1 if optional else None].split("|"))
        choices.append((*options, "") if optional else options)
    return choices


def spell_out(choices: Choices) -> Iterator[tuple[str, ...]]:
    """Yield the phrases of a template, word by word."""
    for choice in product(*choices):
        phrase = tuple(word for word in choice if word)
        if phrase:
            yield phrase


def words_of(templates: Iterable[Choices]) -> frozenset[str]:
    """Return every word of templates, without spelling them out."""
    return frozenset(word for choices in templates for words in choices for word in words if word)


class Match(NamedTuple, Generic[Meaning]):
    """A phrase in a sentence: words `start` to `end` (exclusive) and their meaning."""

    start: int
    end: int
    meaning: Meaning


class PhraseTable(Generic[Meaning]):
    """Templates and their meanings, compiled. A later template overrides an earlier one's phrase."""

    def __init__(self, entries: Iterable[tuple[str, Meaning]]) -> None:
        self._root: dict[Any, Any] = {}
        for templates, meaning in entries:
            for template in templates.split(";"):
                for phrase in spell_out(choices_of(template)):
                    self.add(phrase, meaning)

    def add(self, phrase: Iterable[str], meaning: Meaning) -> None:
        """Add one phrase, word by word; an equal one is overridden."""
        node = self._root
        for word in phrase:
            node = node.setdefault(word, {})
        node[None] = meaning

    def find(self, tokens: Sequence[str]) -> list[Match[Meaning]]:
        """Return the matches from left to right, longest first, none overlapping."""
        matches: list[Match[Meaning]] = []
        root = self._root
        position, count = 0, len(tokens)
        while position < count:
            node = root.get(tokens[position])
            if node is None:
                position += 1
                continue
            end, found_end = position + 1, 0
            while True:
                if None in node:
                    found_end, found = end, node[None]
                if end >= count:
                    break
                node = node.get(tokens[end])
                if node is None:
                    break
                end += 1
            if not found_end:
                position += 1
            else:
                matches.append(Match(position, found_end, found))
                position = found_end
        return matches
