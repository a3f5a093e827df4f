"""How many reports are in which language, and of how many the findings could not be read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from corpus.records import Report


@dataclass
class ReportLanguages:
    """A count of reports. `by_language`: ISO 639-1 code → reports, `unknown` where nobody looked.

    `findings_unread`: reports in a language that has no lexicon, which carry no findings.
    """

    by_language: Counter[str] = field(default_factory=Counter)
    findings_unread: int = 0

    def add(self, report: Report | None) -> None:
        """Count one report; None counts for nothing."""
        if report is not None:
            self.by_language[report.language or "unknown"] += 1
            self.findings_unread += not report.findings_read

    def as_json(self) -> dict[str, Any]:
        """The contract's form, the commonest language first."""
        ranked = sorted(self.by_language.items(), key=lambda entry: (-entry[1], entry[0]))
        return {"by_language": dict(ranked), "findings_unread": self.findings_unread}

    def warning(self) -> str | None:
        """What to tell whoever reads these reports; None where the findings of all were read."""
        if not self.findings_unread:
            return None
        reports = "1 report is" if self.findings_unread == 1 else f"{self.findings_unread:,} reports are"
        return (
            f"{reports} in a language without a lexicon, and no findings were read from there: name a folder "
            "with a table of the language in SIMILARITY_LEXICONS"
        )
