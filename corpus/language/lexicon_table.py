"""The table of a lexicon: a TOML file named by its language, read and checked.

It has the phrases of findings, structures and normality, the triggers of negation, uncertainty, history and
question, syntactic words, headings, abbreviations and function words (`lexicons/de.toml` is an example).
Phrases have the syntax of `corpus.language.phrases`, with three additions: `{seen}` stands for the words of
the group of that name, `unauffällig*` for the word with each of the language's endings, and a word with an
accent also for the one without.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from corpus.errors import UsageError
from corpus.files import quoted
from corpus.findings import VOCABULARY
from corpus.language.lexicon import TOKEN, Entry, Lexicon, doubled, longest_first, plain
from corpus.language.mentions import STRUCTURES, Disease, Enlarged, Mention, Normal
from corpus.language.phrases import Choices, spell_out, words_of
from corpus.language.statements import Meaning
from corpus.language.triggers import Assertion, Direction, Syntax, Trigger

SECTIONS = (
    "findings", "impression", "indication", "history", "comparison", "technique", "examination",
    "recommendation",
)  # fmt: skip
"""Sections that a heading may open; only findings and impression describe the image."""

_ASSERTIONS = (
    Assertion.ABSENT, Assertion.UNCERTAIN, Assertion.HISTORY, Assertion.QUESTION, Assertion.UNEXCLUDED,
    Assertion.PRESENT,
)  # fmt: skip
"""The assertions with triggers, in the order of the English ones."""

_MOST_PHRASES = 50_000  # of one template; more are an error

_DISEASES: Mapping[str, Disease] = {"any": Disease(), "bones": Disease(("fracture",))}
_SIGNS: tuple[Entry, ...] = (
    ((",",), Syntax.COMMA), (("(",), Syntax.COMMA), ((")",), Syntax.COMMA), ((".",), Syntax.TERMINATION),
    ((":",), Syntax.COLON), (("/",), Syntax.AND), (("?",), Trigger(Assertion.UNCERTAIN, Direction.EITHER)),
)  # fmt: skip


def read_lexicon(path: Path) -> Lexicon:
    """Read the table of a lexicon.

    Raises:
        UsageError: the file cannot be read, is no TOML, or has an unknown key or phrase; the message names
            the file, the line and the key, and what is expected.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"the lexicon {quoted(path)} cannot be read: {reason}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the lexicon {quoted(path)} is no TOML: {error}") from None
    return _Reader(path, text, table).read()


_KEYS: Mapping[str, tuple[str, ...] | None] = {
    "name": None, "endings": None, "abbreviations": None, "common": None, "heads": None, "ordinals": None,
    "normal": None, "enlarged": None, "not_findings": None, "idle": None, "story": None, "image": None,
    "letters": (), "groups": (),
    "findings": VOCABULARY.names, "doubtful": VOCABULARY.names,
    "structures": tuple(STRUCTURES), "diseases": tuple(_DISEASES),
    "joints": tuple(syntax.value for syntax in Syntax), "headings": SECTIONS,
    **{assertion.value: tuple(direction.value for direction in Direction) for assertion in Assertion},
}  # fmt: skip
"""The keys of a table, and those below each: None for a list of values, () for any names."""


_TRIGGER_KEYS = tuple(
    f"{assertion.value}.{direction.value}" for assertion in _ASSERTIONS for direction in Direction
)
_PHRASE_KEYS = (
    *(f"joints.{syntax.value}" for syntax in Syntax),
    *(f"structures.{name}" for name in STRUCTURES),
    *(f"diseases.{name}" for name in _DISEASES),
    *(f"{group}.{name}" for group in ("findings", "doubtful") for name in VOCABULARY.names),
    "normal", "enlarged", "not_findings", "idle",
)  # fmt: skip
"""Where a table has phrases, besides those of triggers."""


class _Reader:
    """The reading of one table."""

    def __init__(self, path: Path, text: str, table: Mapping[str, Any]) -> None:
        self._path, self._lines, self._table = path, text.splitlines(), table
        self._version = hashlib.sha256(text.encode()).hexdigest()

    def read(self) -> Lexicon:
        language = self._path.stem
        if not re.fullmatch(r"[a-z]{2,3}", language):
            raise UsageError(
                f"the lexicon {quoted(self._path)} is named by no language: call it by the ISO 639-1 code of "
                "its language, such as it.toml"
            )
        self._check_keys()
        self._endings = ("", *self._listed("endings"))
        self._letters = {str(key): str(value) for key, value in self._table.get("letters", {}).items()}
        self._groups = {name: self._listed(f"groups.{name}") for name in self._table.get("groups", {})}
        # Every template is checked now, and spelled out when a text in the language is read.
        templates = {key: self._choices(key) for key in (*_TRIGGER_KEYS, *_PHRASE_KEYS)}
        return Lexicon(
            language,
            str(self._table.get("name", language)),
            self._entries,
            words_of(chain.from_iterable(templates.values())),
            words_of(chain.from_iterable(templates[key] for key in _TRIGGER_KEYS)),
            dict(self._headings()),
            frozenset(map(plain, self._listed("abbreviations"))),
            self._words("common"),
            self._denying(),
            longest_first(self._words("heads")),
            self._letters,
            self._words("story"),
            self._words("image"),
            self._table.get("ordinals") is True,
            self._version,
        )

    def _check_keys(self) -> None:
        for key, value in self._table.items():
            if key not in _KEYS:
                self._refuse(key, f"no such key; {_nearest(key, _KEYS)}")
            below = _KEYS[key]
            if below is None:
                continue
            if not isinstance(value, dict):
                self._refuse(key, "a table of its own is expected: [" + key + "]")
            for name in value if below else ():
                if name not in below:
                    self._refuse(f"{key}.{name}", f"no such key; {_nearest(name, below)}")

    def _entries(self) -> Iterator[Entry]:
        """Yield phrases and meanings, in the order of the English ones: later ones override."""
        for syntax in Syntax:
            yield from self._phrases(f"joints.{syntax.value}", syntax)
        yield from _SIGNS
        for assertion in _ASSERTIONS:
            yield from self._triggers(assertion)
        for name, structure in STRUCTURES.items():
            yield from self._phrases(f"structures.{name}", structure)
        for name, disease in _DISEASES.items():
            yield from self._phrases(f"diseases.{name}", disease)
        named: dict[tuple[str, ...], list[str]] = {}
        for finding in VOCABULARY.names:
            for phrase in dict.fromkeys(self._spelled(f"findings.{finding}")):
                named.setdefault(phrase, []).append(finding)
        yield from ((phrase, Mention(tuple(findings))) for phrase, findings in named.items())
        for finding in VOCABULARY.names:
            yield from self._phrases(f"doubtful.{finding}", Mention((finding,), doubtful=True))
        yield from self._phrases("normal", Normal())
        yield from self._phrases("enlarged", Enlarged())
        yield from self._phrases("not_findings", Mention(()))
        yield from self._phrases("idle", None)

    def _triggers(self, assertion: Assertion) -> Iterator[Entry]:
        """Yield the triggers of an assertion; one listed forward and backward works in either direction."""
        directions: dict[tuple[str, ...], Direction] = {}
        for direction in Direction:
            for phrase in self._spelled(f"{assertion.value}.{direction.value}"):
                both = directions.get(phrase, direction) is not direction
                directions[phrase] = Direction.EITHER if both else direction
        yield from ((phrase, Trigger(assertion, direction)) for phrase, direction in directions.items())

    def _phrases(self, key: str, meaning: Meaning) -> Iterator[Entry]:
        yield from ((phrase, meaning) for phrase in self._spelled(key))

    def _spelled(self, key: str) -> Iterator[tuple[str, ...]]:
        for choices in self._choices(key):
            yield from spell_out(choices)

    def _choices(self, key: str) -> list[Choices]:
        return [self._choices_of(key, part) for text in self._listed(key) for part in text.split(";")]

    def _choices_of(self, key: str, template: str) -> Choices:
        """Return the words at each position of a template, in plain letters."""
        choices: list[tuple[str, ...]] = []
        count = 1
        for part in template.split():
            optional = len(part) > 1 and part.endswith("?")
            options = (part[:-1] if optional else part).split("|")
            words = dict.fromkeys(word for option in options for word in self._options(key, option))
            choices.append((*words, "") if optional else tuple(words))
            count *= len(choices[-1])
            if count > _MOST_PHRASES:
                self._refuse(key, f"{template!r} stands for over {_MOST_PHRASES:,} phrases: write it as more")
        return choices

    def _options(self, key: str, option: str) -> Iterator[str]:
        """Yield the words of one option of a template."""
        group = re.fullmatch(r"\{(\w+)\}", option)
        if group:
            if group[1] not in self._groups:
                self._refuse(key, f"{option} names no group; {_nearest(group[1], self._groups)}")
            for template in self._groups[group[1]]:
                for word in template.split("|"):
                    yield from self._options(f"groups.{group[1]}", word)
            return
        stem = option.removesuffix("*")
        for ending in self._endings if option.endswith("*") else ("",):
            written = stem + ending
            for word in dict.fromkeys((plain(doubled(written, self._letters)), plain(written))):
                if not TOKEN.fullmatch(word):
                    self._refuse(key, f"{option!r} is no single word or sign: part its words by blanks")
                yield word

    def _words(self, key: str) -> frozenset[str]:
        """Return single words, each in all its spellings."""
        return frozenset(
            word
            for written in self._listed(key)
            for part in written.split()
            for word in self._options(key, part)
        )

    def _denying(self) -> frozenset[str]:
        """Return the words of denying triggers, and of conjunctions and articles."""
        keys = ("absent.forward", "joints.and", "joints.or", "joints.article")
        return words_of(chain.from_iterable(map(self._choices, keys))) | self._words("common")

    def _headings(self) -> Iterator[tuple[str, str]]:
        for name in SECTIONS:
            for heading in self._listed(f"headings.{name}"):
                for written in (heading.lower(), plain(heading), plain(doubled(heading, self._letters))):
                    yield " ".join(written.split()), name

    def _listed(self, key: str) -> Sequence[str]:
        """Return the texts at a key; one text counts as a list of it."""
        value: Any = self._table
        for part in key.split("."):
            value = value.get(part, []) if isinstance(value, dict) else []
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
            self._refuse(key, "a list of texts is expected")
        return found

    def _refuse(self, key: str, why: str) -> None:
        raise UsageError(f"the lexicon {quoted(self._path)}, line {self._line(key)}, key {key}: {why}")

    def _line(self, key: str) -> int:
        """Return the line of a key; the first line where it is not found."""
        *above, last = key.split(".")
        section = ""
        for number, line in enumerate(self._lines, 1):
            heading = re.match(r"\s*\[\s*([\w.]+)\s*\]", line)
            section = heading[1] if heading else section
            if heading and section == key:
                return number
            here = section == ".".join(above)
            if here and re.match(rf"\s*[\"']?{re.escape(last)}[\"']?\s*=", line):
                return number
        return 1


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else "the keys are " + ", ".join(sorted(names))
