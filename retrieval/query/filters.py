"""The `--where` language: `sex=F and age >= 60 and (finding=edema or not view in (ap, ap_supine))`.

    expression  := conjunction ("or" conjunction)*
    conjunction := negation (["and"] negation)*
    negation    := "not" negation | "(" expression ")" | comparison
    comparison  := field ("=" | "!=" | "<" | "<=" | ">" | ">=") value | field "in" list
    list        := "(" value ("," value)* ")" | value ("," value)*

A value of several words, or one that is itself a word of the language, is quoted with ' or ". What comes
out is the store-neutral condition of `indexer.vectors.filters`, with every field known and every value
of its field's type: the engines answer an unknown field silently with nothing, so it is refused here.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from corpus.errors import UsageError
from corpus.redaction import redacted
from indexer.home import Home
from indexer.vectors.filters import (
    CASE_FIELDS,
    And,
    Comparison,
    Condition,
    FieldType,
    Not,
    Operator,
    Or,
    Scalar,
)
from retrieval.query.filter_fields import DESCRIBED, operators, read_value, write_value

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator>!=|<=|>=|=|<|>)
      | (?P<mark>[(),])
      | (?P<word>[^\s(),=!<>"'][^\s(),=!<>"]*)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"""[^\s(),=!<>"'\\][^\s(),=!<>"\\]*""")
_WORDS = frozenset({"and", "or", "not", "in"})
_DEEPEST = 40
_LONGEST = 20_000


@redacted
@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # quoted, operator, mark, word, end
    text: str
    at: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words

    def is_mark(self, mark: str) -> bool:
        return self.kind == "mark" and self.text == mark

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def parse_where(text: str, attributes: Mapping[str, FieldType] | None = None) -> Condition:
    """Read a `--where` expression.

    Args:
        text: the expression.
        attributes: the fields that the indexed tables brought, as `Catalog.own_fields` names them: a column
            with the name of a known field is `attr.<name>`.

    Raises:
        UsageError: it does not parse, names an unknown field, or gives a value of the wrong type; the
            message says at which character, and the nearest known field.
    """
    return Parser(text, {**(attributes or {}), **CASE_FIELDS}).whole()


def conjunction(conditions: Iterable[Condition | None]) -> Condition | None:
    """Join the conditions that are given, all of which must be met; None where there are none."""
    given = tuple(condition for condition in conditions if condition is not None)
    if len(given) > 1:
        return And(given)
    return given[0] if given else None


def excluding(home: Home, field: str, ids: Collection[str]) -> Condition | None:
    """Return the condition that a study is none of these, None where there are none.

    Args:
        home: with the key that ids are hashed by in the vector store.
        field: `subject` or `study`.
        ids: as the catalog has them.
    """
    if not ids:
        return None
    return Not(Comparison(field, "in", tuple(sorted(home.keyed(field, one) for one in ids))))


def _unquote(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL)


class Parser:
    """Recursive descent over the tokens of one expression."""

    option = "--where"
    example = "sex=F and age>=60"

    def __init__(self, text: str, fields: Mapping[str, FieldType]) -> None:
        if len(text) > _LONGEST:
            raise UsageError(f"{self.option}: {len(text)} characters; at most {_LONGEST} are read")
        self.text = unicodedata.normalize("NFC", text)  # as the values of tables are kept
        self.fields = fields
        self.tokens = list(self.tokenize())
        self.next = 0
        self.depth = 0

    def whole(self) -> Condition:
        """Read the whole text, which must not be empty."""
        if len(self.tokens) == 1:
            raise UsageError(f"{self.option} is empty; write for example: {self.example}")
        condition = self.expression()
        if self.peek().kind != "end":
            raise self.error(self.peek(), f"{self.peek().shown} is left over")
        return condition

    def expression(self) -> Condition:
        """Read conjunctions joined by "or"."""
        parts = [self.conjunction()]
        while self.peek().is_word("or"):
            self.take()
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def conjunction(self) -> Condition:
        """Read negations joined by "and" or by nothing."""
        parts = [self.negation()]
        while True:
            token = self.peek()
            if token.is_word("and"):
                self.take()
            elif token.is_word("or") or not (token.kind in ("word", "quoted") or token.is_mark("(")):
                break
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negation(self) -> Condition:
        """Read a comparison, one that is denied, or an expression in parentheses."""
        token = self.peek()
        if not (token.is_word("not") or token.is_mark("(")):
            return self.comparison()
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error(token, f"nested deeper than {_DEEPEST}")
        self.take()
        inner: Condition
        if token.is_mark("("):
            inner = self.expression()
            self.expect(")")
        else:
            inner = Not(self.negation())
        self.depth -= 1
        return inner

    def comparison(self) -> Condition:
        """Read a field, an operator and a value or list."""
        named = self.take()
        if named.kind not in ("word", "quoted") or named.is_word(*_WORDS):
            raise self.error(named, f"expected a field such as sex, age or finding, found {named.shown}")
        field = named.text if named.text in self.fields else named.text.lower()
        kind = self.fields.get(field)
        if kind is None:
            lonely = self.peek().kind != "operator" and not self.peek().is_word("in")
            hint = " (a value of several words is quoted)" if lonely and self.next > 1 else ""
            raise self.error(named, unknown_field(named.text, self.fields) + hint)
        operator = self.take()
        if operator.is_word("in"):
            values = tuple(self.value(field, kind, token) for token in self.listed())
            return Comparison(field, "in", values)
        if operator.kind != "operator":
            raise self.error(
                operator,
                f"after {named.text!r} expected one of = != < <= > >= in, found {operator.shown}",
            )
        if operator.text not in operators(kind):
            raise self.error(operator, f"{field} is {DESCRIBED[kind]} and has no order: use =, != or in")
        value = self.value(field, kind, self.value_token())
        return Comparison(field, cast(Operator, operator.text), value)

    def listed(self) -> list[_Token]:
        """The values after `in`, with or without parentheses."""
        bracketed = self.peek().is_mark("(")
        if bracketed:
            self.take()
        tokens = [self.value_token()]
        while self.peek().is_mark(","):
            self.take()
            tokens.append(self.value_token())
        if bracketed:
            self.expect(")")
        return tokens

    def value_token(self, what: str = "a value") -> _Token:
        """Take a token that is a value; a message says that `what` was expected."""
        token = self.take()
        if token.kind not in ("word", "quoted") or token.is_word(*_WORDS):
            raise self.error(token, f"expected {what}, found {token.shown}")
        return token

    def value(self, field: str, kind: FieldType, token: _Token) -> Scalar:
        """Turn a value's token into one of the field's type."""
        try:
            return read_value(field, kind, token.text)
        except ValueError as error:
            raise self.error(token, str(error)) from None

    def expect(self, mark: str) -> None:
        """Take a mark that must be next."""
        token = self.take()
        if not token.is_mark(mark):
            raise self.error(token, f"expected {mark!r}, found {token.shown}")

    def peek(self) -> _Token:
        """The next token, left where it is."""
        return self.tokens[self.next]

    def take(self) -> _Token:
        """The next token; at the end that stays."""
        token = self.tokens[self.next]
        if token.kind != "end":
            self.next += 1
        return token

    def error(self, token: _Token, what: str) -> UsageError:
        """Return the error in one line: where, what, and the words around it."""
        at = token.at
        around = self.text[max(0, at - 12) : at] + "▸" + self.text[at : at + 20]
        return UsageError(f"{self.option}, character {at + 1}: {what}  [{' '.join(around.split())}]")

    def tokenize(self) -> Iterator[_Token]:
        """Cut the text into tokens, an end after the last."""
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None:
                sign = self.text[at]
                what = "a quote that is not closed" if sign in "\"'" else f"{sign!r} has no meaning here"
                raise self.error(_Token("end", "", at), what)
            kind = str(match.lastgroup)
            if kind != "space":
                shown = match.group()
                yield _Token(kind, _unquote(shown) if kind == "quoted" else shown, at)
            at = match.end()
        yield _Token("end", "", len(self.text))


def unknown_field(name: str, fields: Mapping[str, FieldType]) -> str:
    """Say that a field is unknown, naming the nearest known one."""
    nearest = get_close_matches(name.lower(), list(fields), n=1, cutoff=0.0)
    return f"unknown field {name!r}; the nearest is {nearest[0]!r} (known: {', '.join(sorted(fields))})"


def unparse_where(condition: Condition) -> str:
    """Write a condition as an expression that `parse_where` reads back to an equal one."""
    match condition:
        case Comparison(field, "in", tuple() as values):
            return f"{_quote(field)} in ({', '.join(_quote(write_value(value)) for value in values)})"
        case Comparison(field, operator, value) if not isinstance(value, tuple):
            return f"{_quote(field)} {operator} {_quote(write_value(value))}"
        case And(parts):
            return " and ".join(map(_part, parts))
        case Or(parts):
            return " or ".join(map(_part, parts))
        case Not(part):
            return f"not {_part(part)}"
    raise TypeError(f"not a condition: {condition!r}")


def _part(condition: Condition) -> str:
    written = unparse_where(condition)
    return f"({written})" if isinstance(condition, And | Or) else written


def _quote(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
