"""The vocabulary of findings: names, parents, aliases, statuses.

A finding is what the image shows. Names follow CheXpert and NIH ChestX-ray14; the tree over them is small: a
present child makes its parent present, an absent parent makes its children absent. Metrics count leaves.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from corpus.errors import UsageError


class Status(StrEnum):
    """The status of a finding. The four are never collapsed on the way in."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    UNMENTIONED = "unmentioned"


Statuses = Mapping[str, Status]
"""Finding name → status. A finding that is not in the mapping is unmentioned."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of the vocabulary.

    `name`: in JSON.
    `parent`: the finding above it, None at the top.
    `cuis`: UMLS concept identifiers.
    `aliases`: other names in label tables, compared without case and separators.
    `largest_mm`: largest diameter by definition, None without a bound.
    """

    name: str
    parent: str | None = None
    cuis: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    largest_mm: float | None = None


NO_FINDING = "no_finding"
SUPPORT_DEVICES = "support_devices"


def _key(name: str) -> str:
    """Return a name without case and separators: `Pleural Effusion` and `pleural_effusion` agree."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class Vocabulary:
    """A closed set of findings with their tree. `VOCABULARY` is the one in use."""

    findings: tuple[Finding, ...]
    _by_key: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _by_cui: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _children: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {f.name for f in self.findings}
        by_key: dict[str, str] = {}
        by_cui: dict[str, str] = {}
        children: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.parent is not None:
                if finding.parent not in names:
                    raise UsageError(f"finding {finding.name!r} names an unknown parent {finding.parent!r}")
                children.setdefault(finding.parent, []).append(finding.name)
            for alias in (finding.name, *finding.aliases):
                if by_key.setdefault(_key(alias), finding.name) != finding.name:
                    raise UsageError(f"the alias {alias!r} names two findings")
            for cui in finding.cuis:
                if by_cui.setdefault(cui, finding.name) != finding.name:
                    raise UsageError(f"the concept {cui} names two findings")
        object.__setattr__(self, "_by_key", MappingProxyType(by_key))
        object.__setattr__(self, "_by_cui", MappingProxyType(by_cui))
        object.__setattr__(self, "_children", MappingProxyType({k: tuple(v) for k, v in children.items()}))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the table."""
        return tuple(f.name for f in self.findings)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The findings that metrics count: those without children, `no_finding` left out."""
        return tuple(n for n in self.names if n not in self._children and n != NO_FINDING)

    def children(self, name: str) -> tuple[str, ...]:
        """The findings directly below `name`."""
        return self._children.get(name, ())

    def parent(self, name: str) -> str | None:
        """The finding directly above `name`."""
        return next(f.parent for f in self.findings if f.name == name)

    def ancestors(self, name: str) -> tuple[str, ...]:
        """The findings above `name`, from its parent to the top.

        Example:
            >>> VOCABULARY.ancestors("nodule")
            ('lung_lesion', 'lung_opacity')
        """
        above = self.parent(name)
        return () if above is None else (above, *self.ancestors(above))

    def descendants(self, name: str) -> tuple[str, ...]:
        """The findings below `name`, at any depth, each followed by its own descendants.

        Example:
            >>> VOCABULARY.descendants("lung_lesion")
            ('nodule', 'mass')
        """
        return tuple(below for child in self.children(name) for below in (child, *self.descendants(child)))

    def largest_mm(self, name: str | None) -> float | None:
        """Return the largest diameter of `name` by definition, None without a bound."""
        return next((f.largest_mm for f in self.findings if f.name == name), None)

    def find(self, alias: str) -> str | None:
        """Return the finding that an outside name means, or None."""
        return self._by_key.get(_key(alias))

    def find_concept(self, cui: str) -> str | None:
        """Return the finding that a UMLS concept identifier (`C0032227`) means, or None."""
        return self._by_cui.get(cui)

    def resolve(self, alias: str) -> str:
        """Like `find`, but an unknown name is a `UsageError`."""
        name = self.find(alias)
        if name is None:
            raise UsageError(f"unknown finding {alias!r}; known are {', '.join(self.names)}")
        return name

    def spread(self, statuses: Statuses) -> Statuses:
        """Spread statuses along the tree: present upwards, then absent downwards.

        An absent parent with a present child becomes present. An absent parent does not overrule a child that
        is uncertain.
        """
        spread = {n: s for n, s in statuses.items() if s is not Status.UNMENTIONED}
        for name in [n for n, s in spread.items() if s is Status.PRESENT]:
            spread |= dict.fromkeys(self.ancestors(name), Status.PRESENT)
        queue = [n for n, s in spread.items() if s is Status.ABSENT]
        while queue:
            for child in self.children(queue.pop()):
                if child not in spread:
                    spread[child] = Status.ABSENT
                    queue.append(child)
        return MappingProxyType({n: spread[n] for n in self.names if n in spread})


VOCABULARY = Vocabulary(
    (
        Finding(NO_FINDING, None, ("C0205307",), ("normal", "no findings")),
        Finding("enlarged_cardiomediastinum", None, ("C2021206",), ("widened mediastinum",)),
        Finding("cardiomegaly", None, ("C0018800",)),
        Finding("lung_opacity", None, ("C0742855", "C4050280"), ("opacity", "airspace opacity")),
        Finding(
            "lung_lesion",
            "lung_opacity",
            ("C0577916", "C0024121", "C0242379", "C0684249", "C0153676", "C0027627"),
        ),
        Finding("edema", "lung_opacity", ("C0034063", "C0018801", "C0018802"), ("pulmonary edema", "oedema")),
        Finding("consolidation", "lung_opacity", ("C0521530",)),
        Finding(
            "pneumonia",
            "lung_opacity",
            ("C0032285", "C3714636", "C0006285", "C0032300", "C0004626", "C0032310", "C0032290"),
        ),
        Finding("atelectasis", "lung_opacity", ("C0004144",)),
        Finding("pneumothorax", None, ("C0032326",)),
        Finding("pleural_effusion", None, ("C0032227", "C0013687", "C0014013", "C0019123"), ("effusion",)),
        Finding("pleural_other", None, ("C0032226",)),
        Finding("fracture", None, ("C0016658", "C0035522", "C0080179")),
        Finding(
            SUPPORT_DEVICES,
            None,
            ("C0183683", "C0085590", "C1145640", "C0008034", "C0336630", "C0085678", "C0030163"),
            ("devices",),
        ),
        Finding("infiltration", "lung_opacity", ("C0235896", "C0332448"), ("infiltrate",)),
        # What is larger is a mass (Fleischner Society's glossary, Radiology 246, 2008).
        Finding(
            "nodule",
            "lung_lesion",
            ("C0034079", "C0028259"),
            ("pulmonary nodule", "lung nodule"),
            largest_mm=30.0,
        ),
        Finding("mass", "lung_lesion", ("C0149726", "C0577559"), ("lung mass",)),
        Finding("emphysema", None, ("C0034067", "C0013990")),
        Finding("fibrosis", None, ("C0034069", "C0016059"), ("pulmonary fibrosis",)),
        Finding("pleural_thickening", "pleural_other", ("C0264545",)),
        Finding("hernia", None, ("C3489393", "C0019291", "C0019284", "C0019270"), ("hiatal hernia",)),
        Finding(
            "ground_glass",
            "lung_opacity",
            ("C3544344",),
            ("ground glass opacity", "ground glass opacities", "ggo"),
        ),
    )
)


def make_statuses(
    present: Iterable[str] = (), absent: Iterable[str] = (), uncertain: Iterable[str] = ()
) -> Statuses:
    """Return statuses from three lists of names or aliases, spread along the tree.

    Raises:
        UsageError: a name is unknown, or one finding is given two statuses.
    """
    statuses: dict[str, Status] = {}
    for status, names in (
        (Status.PRESENT, present),
        (Status.ABSENT, absent),
        (Status.UNCERTAIN, uncertain),
    ):
        for alias in names:
            name = VOCABULARY.resolve(alias)
            if statuses.setdefault(name, status) is not status:
                raise UsageError(f"{name} is called both {statuses[name]} and {status}")
    return VOCABULARY.spread(statuses)


def status_lists(statuses: Statuses) -> dict[str, list[str]]:
    """Return the JSON form: `{"present": […], "absent": […], "uncertain": […]}`, in vocabulary order."""
    return {
        status.value: [n for n in VOCABULARY.names if statuses.get(n) is status]
        for status in (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)
    }


def present_leaves(statuses: Statuses) -> frozenset[str]:
    """The present findings that metrics count."""
    return frozenset(n for n in VOCABULARY.leaves if statuses.get(n) is Status.PRESENT)


def is_normal(statuses: Statuses) -> bool:
    """Return whether the image was read as normal."""
    return statuses.get(NO_FINDING) is Status.PRESENT
