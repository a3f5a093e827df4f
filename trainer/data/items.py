"""What a training run learns from: pictures and texts of any mix of sources, gathered apart.

MedCLIP's decoupling: every picture and every text is an item of its own with its own labels, whether the set
it comes from is paired, has no text, or has no pictures. That two items belong to one study is remembered.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from corpus.errors import TrainingError
from corpus.findings import VOCABULARY, Status, Statuses
from corpus.language.labeler import label_report, label_sentence, labeled
from corpus.language.sections import sentences
from corpus.records import ProblemSink, Report, Source, Study
from corpus.redaction import redacted
from corpus.splits import split_of
from trainer.data.prompts import describe

logger = logging.getLogger(__name__)

TextUnit = Literal["report", "sentence", "both"]
TEXT_UNITS: tuple[TextUnit, ...] = ("report", "sentence", "both")


@redacted
@dataclass(frozen=True, slots=True)
class Picture:
    """One picture and what is known of its study: findings, and what its report tells, if it has one."""

    item_id: str
    location: str
    study_id: str
    subject_id: str
    statuses: Statuses
    told: str | None = None


@redacted
@dataclass(frozen=True, slots=True)
class Text:
    """One distinct text, labelled by itself; the studies, and the people, that it is of or was made for."""

    text: str
    studies: frozenset[str]
    statuses: Statuses
    subjects: frozenset[str] = frozenset()


@redacted
@dataclass(frozen=True, slots=True)
class Pool:
    """The items of one split."""

    pictures: tuple[Picture, ...]
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class SourceCount:
    """How much of one source a run learns from. `unlabelled` items have no known finding."""

    source: str
    subjects: int
    pictures: int
    texts: int
    unlabelled: int


@redacted
@dataclass(frozen=True, slots=True)
class Gathered:
    """The corpus of a run. `subjects`: everyone whose items it may see, training or monitoring.

    The texts of `val` are reports, whatever those of `train` are.
    """

    train: Pool
    val: Pool
    sources: tuple[SourceCount, ...]
    subjects: frozenset[str]


def gather(
    sources: Sequence[tuple[str, Source]],
    unit: TextUnit,
    on_problem: ProblemSink,
    *,
    need_labels: bool = True,
    prompts: int = 0,
    seed: int = 0,
    whole: bool = False,
) -> Gathered:
    """Read sources into training and monitoring pools, subjects of the test split left out.

    Args:
        sources: (name, source) each; the name goes into the record.
        unit: whether a text is a report's described part, each of its sentences, or both.
        on_problem: gets every item that could not be read.
        need_labels: leave out items without any known finding (the loss lives on labels).
        prompts: how many texts to make from the findings of each study that has pictures and no report.
        seed: of the made texts.
        whole: put everyone into both pools, for a cross-validation that divides them itself.

    Raises:
        TrainingError: nothing can be learned from what is there; says what is lacking.
    """
    rng = np.random.default_rng([seed, prompts])
    train, val = _Collector(unit, prompts, rng), _Collector("report", 0, rng)
    counts = []
    for name, source in sources:
        count = _Count()
        for study in source.studies(on_problem):
            split = split_of(study.subject_id)
            if split == "test":
                continue
            known = labeled(study)
            if whole or split == "train":
                train.add(known, count)
            if whole or split == "val":
                val.add(known, _Count() if whole else count)
        counts.append(count.total(name))
    gathered = Gathered(
        train.pool(need_labels),
        val.pool(need_labels),
        tuple(counts),
        frozenset(train.subjects | val.subjects),
    )
    _check(gathered, train, need_labels)
    return gathered


class _Count:
    """Adds up one source."""

    def __init__(self) -> None:
        self.subjects: set[str] = set()
        self.items: Counter[str] = Counter()

    def total(self, source: str) -> SourceCount:
        """What the source gave."""
        numbers = (self.items[kind] for kind in ("pictures", "texts", "unlabelled"))
        return SourceCount(source, len(self.subjects), *numbers)


class _Collector:
    """Collects the items of one split; identical texts become one."""

    def __init__(self, unit: TextUnit, prompts: int, rng: np.random.Generator) -> None:
        self._unit = unit
        self._prompts, self._rng = prompts, rng
        self._pictures: list[Picture] = []
        self._texts: dict[str, tuple[set[str], set[str], Statuses]] = {}
        self.subjects: set[str] = set()

    def add(self, study: Study, count: _Count) -> None:
        """Take the items of a study whose findings are completed by its report."""
        self.subjects.add(study.subject_id)
        count.subjects.add(study.subject_id)
        told = " ".join(sentences(study.report)) if study.report else None
        for image in study.images:
            known = (study.study_id, study.subject_id, study.findings, told)
            self._pictures.append(Picture(image.item_id, image.location, *known))
        count.items["pictures"] += len(study.images)
        count.items["unlabelled"] += 0 if study.findings else len(study.images)
        for text, statuses in self._texts_of(study.report) if study.report else self._made_for(study):
            studies, subjects, _ = self._texts.setdefault(text, (set(), set(), statuses))
            studies.add(study.study_id)
            subjects.add(study.subject_id)
            count.items["texts"] += 1
            count.items["unlabelled"] += not statuses

    def _made_for(self, study: Study) -> Iterable[tuple[str, Statuses]]:
        if study.images and study.findings:
            for _ in range(self._prompts):
                yield describe(study.findings, self._rng), study.findings

    def _texts_of(self, report: Report) -> Iterable[tuple[str, Statuses]]:
        told = sentences(report)
        if self._unit in ("report", "both") and told:
            yield " ".join(told), label_report(report)
        if self._unit in ("sentence", "both"):
            known = {sentence: self._texts.get(sentence) for sentence in told}
            for sentence, held in known.items():
                yield sentence, held[-1] if held else label_sentence(sentence, report.language)

    def pool(self, need_labels: bool) -> Pool:
        """The collected items, those without a known finding left out where labels are needed."""
        texts = (
            Text(text, frozenset(studies), statuses, frozenset(subjects))
            for text, (studies, subjects, statuses) in self._texts.items()
        )
        return Pool(
            tuple(p for p in self._pictures if p.statuses or not need_labels),
            tuple(t for t in texts if t.statuses or not need_labels),
        )

    @property
    def bare(self) -> tuple[int, int]:
        """How many pictures and texts there are, labelled or not."""
        return len(self._pictures), len(self._texts)


def _check(gathered: Gathered, train: _Collector, need_labels: bool) -> None:
    pictures, texts = train.bare
    if len(gathered.subjects) == 1:
        raise TrainingError("the corpus has one subject only: nobody can be held out; add a source")
    if not pictures:
        raise TrainingError("the corpus has no pictures of training subjects; add a source that has some")
    if not texts:
        raise TrainingError(
            "the corpus has no texts to learn from; add a source with reports, such as openi:PATH"
        )
    if not gathered.train.pictures or not gathered.train.texts:
        which = "texts" if gathered.train.pictures else "pictures"
        raise TrainingError(
            f"no label is known of any of the corpus's {which}: a loss over findings has nothing to go by; "
            f"add labels, or train with infonce on true pairs"
        )
    if need_labels:
        seen = {_signature(picture.statuses) for picture in gathered.train.pictures}
        seen |= {_signature(text.statuses) for text in gathered.train.texts}
        if len(seen) == 1:
            raise TrainingError(
                "every picture and text has the same findings: there is nothing to tell apart"
            )


def _signature(statuses: Statuses) -> tuple[Status, ...]:
    return tuple(statuses.get(name, Status.UNMENTIONED) for name in VOCABULARY.names)
