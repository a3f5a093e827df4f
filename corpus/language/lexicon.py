"""The lexicon of a language: the words of radiology by which `corpus.language.assertion` reads a sentence.

English is built from `corpus.language.triggers` and `corpus.language.mentions`; the others are tables
(`corpus.language.lexicon_table`), to which a site can add. All languages share the same rules: a lexicon has
words, and no rules of its own.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from corpus.language import mentions, phrases, triggers
from corpus.language.forms import fill_form
from corpus.language.phrases import PhraseTable
from corpus.language.statements import Meaning

_FORM_ANSWERS = frozenset((word,) for word in ("absent", "present", "negative", "positive", "possible", "no"))
"""The words that `corpus.language.forms` writes for a tick, an empty box or a sign."""

TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)?|[,:./()&?]")
"""A word, a number, or a sign that joins or separates; an apostrophe and a hyphen are blanks."""
_PLAIN = str.maketrans(
    {"ß": "ss", "œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "ı": "i", "đ": "d", "’": "'", ";": "."}
)


def plain(text: str) -> str:
    """Return lower case without accents: `Épanchement`, also decomposed, becomes `epanchement`."""
    if text.isascii():
        return text.lower().replace(";", ".")
    text = unicodedata.normalize("NFKD", text.lower().translate(_PLAIN))
    return "".join(letter for letter in text if not unicodedata.combining(letter))


Entry = tuple[tuple[str, ...], Meaning]
"""A phrase, word by word, and its meaning."""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The words of one language.

    `language`: ISO 639-1 code.
    `name`: the language in English.
    `spell`: yields the entries; tens of thousands, which are spelled out for texts in the language alone.
    `phrase_words`, `trigger_words`: every word of the phrases, and of those that are triggers.
    `headings`: heading in plain letters → section.
    `abbreviations`: words after which a stop ends no sentence.
    `common`: function words.
    `denying`: words between a denial and the denied finding.
    `heads`: endings of compounds that are read as the word by itself (`Unterlappenatelektase`).
    `letters`: letters that are also written as two (`ü`, `ue`).
    `story`, `image`: words of a sentence on the patient's history, and of one that describes an image.
    `ordinals`: whether a stop after a number ends no sentence.
    `version`: digest of the table, empty for English, which has the version of the labeler.
    `words`: tokenizer, None for the default one.
    """

    language: str
    name: str
    spell: Callable[[], Iterable[Entry]] = field(repr=False)
    phrase_words: frozenset[str] = field(repr=False)
    trigger_words: frozenset[str] = field(repr=False)
    headings: Mapping[str, str] = field(default_factory=dict, repr=False)
    abbreviations: frozenset[str] = field(default=frozenset(), repr=False)
    common: frozenset[str] = field(default=frozenset(), repr=False)
    denying: frozenset[str] = field(default=frozenset(), repr=False)
    heads: tuple[str, ...] = field(default=(), repr=False)
    letters: Mapping[str, str] = field(default_factory=dict, repr=False)
    story: frozenset[str] = field(default=frozenset(), repr=False)
    image: frozenset[str] = field(default=frozenset(), repr=False)
    ordinals: bool = False
    version: str = ""
    words: Callable[[str], list[str]] | None = field(default=None, repr=False)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The phrases and their meanings, later ones overriding earlier ones; spelled out on first use."""
        return tuple(self.spell())

    @cached_property
    def table(self) -> PhraseTable[Meaning]:
        """The phrases, compiled on first use."""
        table: PhraseTable[Meaning] = PhraseTable(())
        # The ticks of a form are read as these English words in every language.
        answers = (entry for entry in ENGLISH.entries if entry[0] in _FORM_ANSWERS)
        for phrase, meaning in (*answers, *self.entries):
            table.add(phrase, meaning)
        return table

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word of the phrases and every function word."""
        named = {word for word in self.phrase_words if word[0].isalpha()}
        return frozenset(named | self.common | self.story | self.image)

    @cached_property
    def marks(self) -> frozenset[str]:
        """The function words and words of triggers: sentences in other languages rarely have them."""
        words = self.trigger_words | self.common
        return frozenset(word for word in words if len(word) > 1 and word[0].isalpha())

    def tokens(self, text: str) -> list[str]:
        """Return the words, numbers and signs of a text, in the form of the phrases.

        A compound is replaced by its last part.
        """
        if self.words is not None:
            return self.words(text)
        found = TOKEN.findall(plain(doubled(fill_form(text), self.letters)))
        return [self._head(token) for token in found] if self.heads else found

    def _head(self, token: str) -> str:
        if len(token) > 6 and token not in self.vocabulary:
            for head in self.heads:
                if token.endswith(head):
                    return head
        return token

    def tells_story(self, sentence: str) -> bool:
        """Return whether a sentence is on the patient's history and describes no image."""
        words = self.tokens(sentence)
        return not self.story.isdisjoint(words) and self.image.isdisjoint(words)

    def extended(self, other: "Lexicon") -> "Lexicon":
        """Return this lexicon with a site's additions, which override equal phrases."""
        return Lexicon(
            self.language,
            self.name,
            lambda: (*self.entries, *other.entries),
            self.phrase_words | other.phrase_words,
            self.trigger_words | other.trigger_words,
            {**self.headings, **other.headings},
            self.abbreviations | other.abbreviations,
            self.common | other.common,
            self.denying | other.denying,
            longest_first((*self.heads, *other.heads)),
            {**self.letters, **other.letters},
            self.story | other.story,
            self.image | other.image,
            self.ordinals or other.ordinals,
            hashlib.sha256(f"{self.version} {other.version}".encode()).hexdigest(),
            self.words,
        )


def doubled(text: str, letters: Mapping[str, str]) -> str:
    """Return the text with letters written as two where the language does: `ü` as `ue`, decomposed or not."""
    if text.isascii() or not letters:
        return text
    text = unicodedata.normalize("NFC", text).lower()
    for letter, written in letters.items():
        text = text.replace(letter, written)
    return text


def longest_first(words: Iterable[str]) -> tuple[str, ...]:
    """Return the different words, longer ones first, so that the longest ending of a compound is found."""
    return tuple(sorted(set(words), key=lambda word: (-len(word), word)))


_ENGLISH_COMMON = (
    "the of is are was were with and or in on at for from to there this that which has have been not no a "
    "an be by as it its but if may these than since seen noted within without right left upper lower lobe "
    "lobes chest comparison study examination patient year old x ray view views image images interval "
    "prior area areas anterior posterior lateral over clips ct congestion diffuse note aspect inferior "
    "superior stomach formation structure mitral ventricular material total ratio sinus traumatic "
    "redistribution cerclage articular diagnostic date dense vascular degenerative changes spine thoracic "
    "base bases lung lungs pulmonary mid region size top normal two frontal pa ap portable bilateral only "
    "out also well overlying calcification position tip cabg stabile"
)


def _english_templates() -> Iterator[tuple[phrases.Choices, Meaning]]:
    for templates, meaning in (*triggers.phrases(), *mentions.phrases()):
        for template in templates.split(";"):
            yield phrases.choices_of(template), meaning


def _english_entries() -> Iterator[Entry]:
    for choices, meaning in _english_templates():
        for phrase in phrases.spell_out(choices):
            yield phrase, meaning


ENGLISH = Lexicon(
    "en",
    "English",
    _english_entries,
    phrases.words_of(choices for choices, _ in _english_templates()),
    phrases.words_of(c for c, meaning in _english_templates() if isinstance(meaning, triggers.Trigger)),
    common=frozenset(_ENGLISH_COMMON.split()),
    denying=frozenset(
        ["no", "not", "nor", "without", "or", "and", "any", "evidence", "of", "for", "the", "a", "an"]
    ),
    words=phrases.words,
)
"""English: the language of every text without evidence of another one."""
