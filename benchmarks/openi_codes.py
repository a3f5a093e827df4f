"""The MeSH codes of Open-i, the ground truth of text → report.

Annotators coded the reports: a heading, then site, laterality and severity, such as
`Pleural Effusion/base/left/small`. Only the scoring reads the codes; studies are made without them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from corpus.language.modifiers import Laterality, Severity, Zone

Value = TypeVar("Value")

_FINDINGS: Mapping[str, str] = {
    "Pleural Effusion": "pleural_effusion",
    "Pulmonary Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Opacity": "lung_opacity",
    "Airspace Disease": "lung_opacity",
    "Infiltrate": "infiltration",
    "Consolidation": "consolidation",
    "Nodule": "nodule",
    "Mass": "mass",
    "Pneumothorax": "pneumothorax",
    "Pneumonia": "pneumonia",
    "Pulmonary Edema": "edema",
    "Emphysema": "emphysema",
    "Pulmonary Emphysema": "emphysema",
    "Pulmonary Fibrosis": "fibrosis",
    "Hernia, Hiatal": "hernia",
    "Fractures, Bone": "fracture",
    "Catheters, Indwelling": "support_devices",
    "Tube, Inserted": "support_devices",
    "Medical Device": "support_devices",
    "Implanted Medical Device": "support_devices",
}
_SIDES: Mapping[str, Laterality] = {"right": "right", "left": "left", "bilateral": "bilateral"}
_ZONES: Mapping[str, Zone] = {
    "base": "lower",
    "lower lobe": "lower",
    "upper lobe": "upper",
    "apex": "upper",
    "middle lobe": "mid",
    "lingula": "mid",
}
_SEVERITIES: Mapping[str, Severity] = {
    "small": "small",
    "mild": "small",
    "moderate": "moderate",
    "large": "large",
    "severe": "large",
}


@dataclass(frozen=True, slots=True)
class Code:
    """One coded finding: a name of the vocabulary, and the zone, laterality and severity coded with it."""

    finding: str
    zone: Zone | None = None
    side: Laterality | None = None
    severity: Severity | None = None

    def gain(self, report_codes: Sequence["Code"]) -> float:
        """Return the gain of a report for this query: 1 for the finding, and 1 for each part of the query
        that the best of its codes has, too; 0 without the finding."""
        return max((self._with(code) for code in report_codes if code.finding == self.finding), default=0.0)

    def _with(self, code: "Code") -> float:
        sided = self.side is not None and code.side in (self.side, "bilateral")
        zoned = self.zone is not None and code.zone == self.zone
        graded = self.severity is not None and code.severity == self.severity
        return 1.0 + sided + zoned + graded

    @property
    def text(self) -> str:
        """The query as a reader types it."""
        where = None if self.zone is None else f"{self.zone} lobe" if self.zone != "mid" else "middle lobe"
        parts = (self.severity, self.side, where, self.finding.replace("_", " "))
        return " ".join(part for part in parts if part)


def read_codes(data: Path) -> dict[str, tuple[Code, ...]]:
    """Return study id → its coded findings, of every coded report."""
    table = pl.read_csv(data / "openi" / "indiana_reports.csv", columns=["uid", "MeSH"], infer_schema=False)
    return {
        f"openi:{uid}": tuple(_codes(mesh))
        for uid, mesh in table.iter_rows()
        if mesh and mesh.strip() not in ("", "No Indexing")
    }


def _codes(mesh: str) -> Iterator[Code]:
    for term in mesh.split(";"):
        heading, *parts = (part.strip() for part in term.split("/"))
        finding = _FINDINGS.get(heading)
        if finding is not None:
            yield Code(finding, _first(_ZONES, parts), _first(_SIDES, parts), _first(_SEVERITIES, parts))


def _first(table: Mapping[str, Value], parts: Sequence[str]) -> Value | None:
    return next((table[part] for part in parts if part in table), None)
