"""The language of a report, and the available lexicons.

Telegraphic reports ("No acute disease.") are too short for a detector of letters, so the words come first:
those of each lexicon and, of languages without one, those that deny or open a report
(`lexicons/unread.toml`). Where they do not decide, `py3langid` does (a naive Bayes model over byte n-grams,
in the wheel, deterministic). Without evidence of another language a text is English, or in the language of
`SIMILARITY_REPORT_LANGUAGE`.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from corpus.errors import UsageError
from corpus.files import quoted
from corpus.language.lexicon import ENGLISH, Lexicon, plain
from corpus.language.lexicon_table import read_lexicon
from corpus.records import Report
from corpus.settings import settings

AUTO = "auto"

_MAX_LENGTH = 4_000
"""Characters that are read: the first lines of a report show its language."""
_MIN_ENGLISH_SHARE = 0.3
"""Share of words that only English has; with no foreign word a report is then English."""
_MIN_KNOWN_SHARE = 0.5
"""Share of words in a lexicon from which its language is taken without the detector."""
_MIN_LETTERS = 24
"""Letters from which the detector is used: on fewer it names a language by chance."""
_MIN_PROSE_LETTERS = 60
"""Letters from which the detector is believed about a text without a known word."""

_MIN_COMPOUND_LENGTH = 10
"""Letters from which a word may be a compound."""

_WORD = re.compile(r"[^\W\d_]+")
_SIGN = re.compile(r"[-+−–]ve\b")  # "-ve" is a sign, no Turkish word

# Languages that the detector may return. Languages of few speakers attract the short texts of their
# neighbours.
_CANDIDATES = (
    "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu hy id is it ja ka ko lt lv mk ms nl no pl pt ro "
    "ru sk sl sq sr sv ta th tr uk ur vi zh"
)


@lru_cache(maxsize=1)
def lexicons() -> Mapping[str, Lexicon]:
    """Return language → lexicon: English, the shipped ones, and the tables of `SIMILARITY_LEXICONS`.

    Raises:
        UsageError: the folder does not exist, or a table in it is invalid.
    """
    found = {"en": ENGLISH}
    for entry in sorted(resources.files("corpus.language.lexicons").iterdir(), key=lambda file: file.name):
        if entry.name.endswith(".toml") and entry.name != "unread.toml":
            with resources.as_file(entry) as path:
                _add_lexicon(found, read_lexicon(path))
    folder = settings().lexicons
    if folder is not None:
        for path in _tables(folder.expanduser()):
            _add_lexicon(found, read_lexicon(path))
    return found


def _add_lexicon(found: dict[str, Lexicon], lexicon: Lexicon) -> None:
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
    """Return the lexicon of a language, None without one; English where the language was not detected."""
    return ENGLISH if language is None else lexicons().get(language)


def forget() -> None:
    """Clear the caches, so that a changed folder of lexicons is read."""
    for cached in (lexicons, _weights, _distinctive_words, foreign_words):
        cached.cache_clear()


def default_language() -> str:
    """Return the language of a text without evidence of another one."""
    named = settings().report_language
    return "en" if named == AUTO else named


def report_language(text: str) -> str:
    """Return the language of a report: the configured one, else the detected one."""
    return detect(text) if settings().report_language == AUTO else settings().report_language


def detect(text: str) -> str:
    """Return the language of a text as an ISO 639-1 code; deterministic."""
    text = text[:_MAX_LENGTH]
    words = _words(text)
    if _is_plainly_english(words):
        return "en"
    nameless = _without_names(text)
    if nameless != text:
        left = _words(nameless)
        if _is_plainly_english(left):
            return "en"
        if 2 * len(left) >= len(words):  # else the supposed names may be the report
            text, words = nameless, left
    # A single letter is a label or a unit in any language.
    words = [word for word in words if len(word) > 1 or not word.isascii()]
    default = default_language()
    if not words:
        return default
    scores = _scores(words)
    best, score, second = _leader(scores)
    decided = score > second or scores.get(default, 0.0) < score
    weights = _weights()
    if sum(best in (weights.get(word) or _compounding(word)) for word in words) >= _MIN_KNOWN_SHARE * len(
        words
    ):
        return best if decided else default
    letters = sum(map(len, words))
    foreign_letters = sum(len(word) for word in words if not word.isascii())
    if 2 * foreign_letters > letters:  # another script
        return _classified(text)
    named = _classified(text) if letters >= _MIN_LETTERS else default
    if letters < _MIN_PROSE_LETTERS and text.isascii() and not scores.get(named):
        named = default  # a few plain words: the detector names a language by chance
    # Words that decide by themselves outweigh the detector.
    return best if decided and score >= 2 and scores.get(named, 0.0) <= score / 2 else named


def _words(text: str) -> list[str]:
    return _WORD.findall(_SIGN.sub("", plain(text)))


def _is_plainly_english(words: list[str]) -> bool:
    """Return whether many words exist in English alone, and none is foreign."""
    english, foreign = _distinctive_words()
    return foreign.isdisjoint(words) and sum(map(english.__contains__, words)) > _MIN_ENGLISH_SHARE * len(
        words
    )


def _without_names(text: str) -> str:
    """Return the text without names: Łukasz or de la Cruz makes no report Polish or Spanish."""
    from corpus.language.person_names import find_names  # late: its patterns take half a second

    parts, done = [], 0
    for start, end in sorted(find_names(text)):
        parts.append(text[done:start])
        done = max(done, end)
    return "".join([*parts, text[done:]])


class Reader:
    """Selects the lexicon of each sentence of one report.

    It is the report's own, except for sentences that are clearly in another language with a lexicon
    ("FINDINGS: Kein Erguss. No pneumothorax.").
    """

    def __init__(self, lexicon: Lexicon, text: str) -> None:
        """Prepare for the sentences of `text`; `lexicon` is that of the report."""
        self._lexicon = lexicon
        self._mixed = not foreign_words(lexicon.language).isdisjoint(plain(text).split())

    def of(self, sentence: str) -> Lexicon:
        """Return the lexicon for a sentence."""
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
    """Return the distinctive words of the other lexicons that are no words of this one."""
    own = lexicons()[language].vocabulary
    return frozenset(
        word for code, lexicon in lexicons().items() if code != language for word in lexicon.marks
    ).difference(own)


def _leader(scores: Mapping[str, float]) -> tuple[str, float, float]:
    """Return the language of the highest score, that score, and the next; of equals the default wins."""
    default = default_language()
    read = lexicons()
    ranked = sorted(scores.items(), key=lambda one: (-one[1], one[0] != default, one[0] not in read, one[0]))
    if not ranked:
        return default, 0.0, 0.0
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    return *ranked[0], second


def _scores(words: Iterable[str]) -> dict[str, float]:
    """Return language → number of the words that are its own.

    A word of several languages counts in part for each.
    """
    weights = _weights()
    scores: dict[str, float] = {}
    for word in words:
        languages = weights.get(word) or _compounding(word)
        for language in languages:
            scores[language] = scores.get(language, 0.0) + 1 / len(languages)
    return scores


@lru_cache(maxsize=1)
def _weights() -> Mapping[str, tuple[str, ...]]:
    """Return word → the languages that have it."""
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
    """Return the languages that have a word's last part, as a compound in no table."""
    if len(word) < _MIN_COMPOUND_LENGTH:
        return ()
    return tuple(
        code for code, lexicon in lexicons().items() if lexicon.heads and word.endswith(lexicon.heads)
    )


@lru_cache(maxsize=1)
def _distinctive_words() -> tuple[frozenset[str], frozenset[str]]:
    """Return the words that only English has, and those that English does not have."""
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


def _classified(text: str) -> str:
    language: str = _identifier().classify(text)[0]
    return language


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # late: half a second, and rarely needed

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(_CANDIDATES.split())
    return identifier


@dataclass
class ReportLanguages:
    """A count of reports.

    `by_language`: ISO 639-1 code → reports, `unknown` where it was not detected.
    `findings_unread`: reports in a language without a lexicon, which have no findings.
    """

    by_language: Counter[str] = field(default_factory=Counter)
    findings_unread: int = 0

    def add(self, report: Report | None) -> None:
        """Count one report; None is ignored."""
        if report is not None:
            self.by_language[report.language or "unknown"] += 1
            self.findings_unread += not report.findings_read

    def as_json(self) -> dict[str, Any]:
        """Return the form of the contract, the most frequent language first."""
        ranked = sorted(self.by_language.items(), key=lambda entry: (-entry[1], entry[0]))
        return {"by_language": dict(ranked), "findings_unread": self.findings_unread}

    def warning(self) -> str | None:
        """Return a warning for the user; None where the findings of all reports were read."""
        if not self.findings_unread:
            return None
        reports = "1 report is" if self.findings_unread == 1 else f"{self.findings_unread:,} reports are"
        return (
            f"{reports} in a language without a lexicon, and no findings were read from there: name a folder "
            "with a table of the language in SIMILARITY_LEXICONS"
        )
