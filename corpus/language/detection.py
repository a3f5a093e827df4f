"""Which language a report is in, and the lexicons that are at hand.

Telegraphic reports ("No acute disease.") are too short for any detector of letters, so the words come
first: those of each lexicon and, of languages without one, those that deny or open a report
(`lexicons/unread.toml`). Where they do not decide, `py3langid` does (a naive Bayes model over byte n-grams,
in the wheel, the same answer for the same text). What nothing tells to be in another language is read as
English, or as the language that `SIMILARITY_REPORT_LANGUAGE` names.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from corpus.errors import UsageError
from corpus.files import quoted
from corpus.language.lexicon import ENGLISH, Lexicon, plain
from corpus.language.lexicon_table import read_lexicon
from corpus.language.person_names import find_names
from corpus.settings import settings

AUTO = "auto"

_LONGEST = 4_000
"""Characters that are looked at: a report says its language in its first lines."""
_SURE = 0.3
"""Of the words, those that English alone has: a report without a foreign word is then English."""
_KNOWN = 0.5
"""Of the words, those that a lexicon has: enough to take its language without asking the detector."""
_LETTERS = 24
"""Letters from which on the detector is asked: below, it names a language by chance."""
_PROSE = 60
"""Letters from which on the detector is believed about a text of which no word is known."""

_COMPOUND = 10
"""Letters from which on a word may be a compound."""

_WORD = re.compile(r"[^\W\d_]+")
_SIGN = re.compile(r"[-+−–]ve\b")  # "-ve" is a sign, and no word of Turkish

# Languages that the detector may name. Those of few speakers take the short texts of their neighbours.
_CANDIDATES = (
    "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu hy id is it ja ka ko lt lv mk ms nl no pl pt ro "
    "ru sk sl sq sr sv ta th tr uk ur vi zh"
)


@lru_cache(maxsize=1)
def lexicons() -> Mapping[str, Lexicon]:
    """Language → lexicon: English, those that are shipped, and the tables of `SIMILARITY_LEXICONS`.

    Raises:
        UsageError: the folder is not there, or a table of it cannot be used.
    """
    found = {"en": ENGLISH}
    for entry in sorted(resources.files("corpus.language.lexicons").iterdir(), key=lambda file: file.name):
        if entry.name.endswith(".toml") and entry.name != "unread.toml":
            with resources.as_file(entry) as path:
                _take(found, read_lexicon(path))
    folder = settings().lexicons
    if folder is not None:
        for path in _tables(folder.expanduser()):
            _take(found, read_lexicon(path))
    return found


def _take(found: dict[str, Lexicon], lexicon: Lexicon) -> None:
    known = found.get(lexicon.language)
    found[lexicon.language] = lexicon if known is None else known.extended(lexicon)


def _tables(folder: Path) -> list[Path]:
    try:
        tables = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as error:
        raise UsageError(
            f"SIMILARITY_LEXICONS names {quoted(folder)}, which cannot be read "
            f"({error.strerror or error}): name a folder of tables such as it.toml"
        ) from None
    if not tables:
        raise UsageError(f"SIMILARITY_LEXICONS names {quoted(folder)}, which holds no table such as it.toml")
    return tables


def lexicon_of(language: str | None) -> Lexicon | None:
    """The lexicon of a language, None where there is none; of a report whose language nobody looked for,
    English."""
    return ENGLISH if language is None else lexicons().get(language)


def forget() -> None:
    """Read the lexicons anew when they are asked for next: another folder of tables is set."""
    for cached in (lexicons, _weights, _marks, foreign_words):
        cached.cache_clear()


def default_language() -> str:
    """The language of a text that nothing tells to be in another."""
    named = settings().report_language
    return "en" if named == AUTO else named


def report_language(text: str) -> str:
    """The language of a report: the one that is set, else the one detected."""
    return detect(text) if settings().report_language == AUTO else settings().report_language


def detect(text: str) -> str:
    """The language of a text, as an ISO 639-1 code; the same for the same text, always."""
    text = text[:_LONGEST]
    words = _words(text)
    if _is_plainly_english(words):
        return "en"
    nameless = _without_names(text)
    if nameless != text:
        left = _words(nameless)
        if _is_plainly_english(left):
            return "en"
        if 2 * len(left) >= len(words):  # else what looks like a name may be the report
            text, words = nameless, left
    # A letter by itself is a label or a unit in any language.
    words = [word for word in words if len(word) > 1 or not word.isascii()]
    default = default_language()
    if not words:
        return default
    scores = _scores(words)
    best, score, second = _leader(scores)
    decided = score > second or scores.get(default, 0.0) < score
    weights = _weights()
    if sum(best in (weights.get(word) or _compounding(word)) for word in words) >= _KNOWN * len(words):
        return best if decided else default
    letters = sum(map(len, words))
    foreign_letters = sum(len(word) for word in words if not word.isascii())
    if 2 * foreign_letters > letters:  # another script
        return _named(text)
    named = _named(text) if letters >= _LETTERS else default
    if letters < _PROSE and text.isascii() and not scores.get(named):
        named = default  # a few plain words: the detector names a language by chance
    # Words that decide by themselves outweigh the detector.
    return best if decided and score >= 2 and scores.get(named, 0.0) <= score / 2 else named


def _words(text: str) -> list[str]:
    return _WORD.findall(_SIGN.sub("", plain(text)))


def _is_plainly_english(words: list[str]) -> bool:
    """Whether many words are English alone, and none is foreign."""
    english, foreign = _marks()
    return foreign.isdisjoint(words) and sum(map(english.__contains__, words)) > _SURE * len(words)


def _without_names(text: str) -> str:
    """The text without the names in it: Łukasz or de la Cruz makes no report Polish or Spanish."""
    parts, done = [], 0
    for start, end in sorted(find_names(text)):
        parts.append(text[done:start])
        done = max(done, end)
    return "".join([*parts, text[done:]])


class Reader:
    """Which lexicon each sentence of one report is read by: the report's own, but for sentences that are
    decidedly in another language that has one ("FINDINGS: Kein Erguss. No pneumothorax.")."""

    def __init__(self, lexicon: Lexicon, text: str) -> None:
        """Read the sentences of `text` by `lexicon`; a look at its words tells whether one is foreign."""
        self._lexicon = lexicon
        self._mixed = not foreign_words(lexicon.language).isdisjoint(plain(text).split())

    def of(self, sentence: str) -> Lexicon:
        """The lexicon for a sentence."""
        if not self._mixed:
            return self._lexicon
        words = _WORD.findall(plain(sentence))
        own = self._lexicon.language
        if foreign_words(own).isdisjoint(words):
            return self._lexicon
        scores = _scores(words)
        best, score, second = _leader({code: scores[code] for code in scores if code in lexicons()})
        decided = best != own and score > second and score >= 2 * scores.get(own, 0.0)
        return lexicons()[best] if decided else self._lexicon


@lru_cache(maxsize=8)
def foreign_words(language: str) -> frozenset[str]:
    """The marks of the other lexicons that are no words of this one."""
    own = lexicons()[language].vocabulary
    return frozenset(
        word for code, lexicon in lexicons().items() if code != language for word in lexicon.marks
    ).difference(own)


def _leader(scores: Mapping[str, float]) -> tuple[str, float, float]:
    """The language of the highest score, that score, and the next; of equals the default comes first."""
    default = default_language()
    read = lexicons()
    ranked = sorted(scores.items(), key=lambda one: (-one[1], one[0] != default, one[0] not in read, one[0]))
    if not ranked:
        return default, 0.0, 0.0
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    return *ranked[0], second


def _scores(words: Iterable[str]) -> dict[str, float]:
    """Language → how many of the words are its own; one that several have counts for each in part."""
    weights = _weights()
    scores: dict[str, float] = {}
    for word in words:
        languages = weights.get(word) or _compounding(word)
        for language in languages:
            scores[language] = scores.get(language, 0.0) + 1 / len(languages)
    return scores


@lru_cache(maxsize=1)
def _weights() -> Mapping[str, tuple[str, ...]]:
    """Word → the languages that have it."""
    having: dict[str, list[str]] = {}
    for language, lexicon in lexicons().items():
        for word in lexicon.vocabulary:
            having.setdefault(word, []).append(language)
    for language, words in _unread().items():
        if language not in lexicons():
            for word in dict.fromkeys(plain(words).split()):
                having.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in having.items()}


def _compounding(word: str) -> tuple[str, ...]:
    """The languages that have a word's last part, as a compound that no table lists."""
    if len(word) < _COMPOUND:
        return ()
    return tuple(
        code for code, lexicon in lexicons().items() if lexicon.heads and word.endswith(lexicon.heads)
    )


@lru_cache(maxsize=1)
def _marks() -> tuple[frozenset[str], frozenset[str]]:
    """The words that only English has, and those that English does not have."""
    weights = _weights()
    english = frozenset(word for word, languages in weights.items() if languages == ("en",))
    foreign = frozenset(word for word, languages in weights.items() if "en" not in languages)
    return english, foreign


def _unread() -> Mapping[str, str]:
    table = tomllib.loads(
        resources.files("corpus.language.lexicons").joinpath("unread.toml").read_text("utf-8")
    )
    words: Mapping[str, str] = table["words"]
    return words


def _named(text: str) -> str:
    language: str = _identifier().classify(text)[0]
    return language


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # late: half a second, and rarely needed

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(_CANDIDATES.split())
    return identifier
