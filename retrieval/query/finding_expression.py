"""An expression over findings: `edema and not pneumothorax`, `(nodule or mass) and effusion:absent`.

The grammar is that of `--where` (`retrieval.query.filters`) with findings in place of comparisons: a finding
alone means present, `name:absent` and `name:uncertain` what they say; a name of several words is quoted or
joined (`pleural_effusion`). `not edema` is met by a study that does not mention edema; `edema:absent` is
not.
"""

from corpus.errors import UsageError
from corpus.findings import Status
from corpus.language.concepts import Concept
from indexer.vectors.filters import And, Comparison, Condition, FieldType, Not
from retrieval.query.filter_fields import read_value
from retrieval.query.filters import Parser


class _Findings(Parser):
    """The parser of `--where`, where a comparison is a finding's name."""

    option = "--finding"
    example = "edema and not pneumothorax"

    def comparison(self) -> Condition:
        token = self.value_token("a finding such as edema")
        try:
            return Comparison("finding", "=", read_value("finding", FieldType.KEYWORD, token.text))
        except ValueError as error:
            raise self.error(token, str(error)) from None


def parse_findings(text: str) -> Condition:
    """Parse an expression into a condition on `finding`.

    Raises:
        UsageError: it does not parse, names an unknown finding or status; the message says at which
            character, and the nearest known finding.
    """
    return _Findings(text, {}).whole()


def affirmed_findings(condition: Condition) -> tuple[Concept, ...]:
    """Return the findings that an expression names without denying them: its hits are ordered by these."""
    if isinstance(condition, Comparison):
        name, _, status = str(condition.value).partition(":")
        return () if status == Status.ABSENT else (Concept(name, Status.PRESENT),)
    if isinstance(condition, Not):
        return ()
    return tuple(dict.fromkeys(concept for part in condition.parts for concept in affirmed_findings(part)))


def refuse_contradiction(condition: Condition) -> None:
    """Refuse a contradiction such as `edema and not edema`, which no study can meet.

    Raises:
        UsageError: a conjunction asks for a finding and denies it, or asks for two statuses of it.
    """
    if isinstance(condition, And):
        affirmed = {part for part in condition.parts if isinstance(part, Comparison)}
        denied = {part.part for part in condition.parts if isinstance(part, Not)}
        for comparison in affirmed & denied:
            raise UsageError(f"--finding asks for {comparison.value} and denies it: leave one of the two out")
        wanted: dict[str, set[str]] = {}
        for comparison in affirmed:
            name, _, status = str(comparison.value).partition(":")
            wanted.setdefault(name, set()).add(status or Status.PRESENT)
        for name, statuses in wanted.items():
            if len(statuses) > 1:
                raise UsageError(f"--finding wants {name} to be {' and '.join(sorted(statuses))} at once")
