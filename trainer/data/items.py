"""Training items: images and texts of any mix of sources, gathered separately.

MedCLIP's decoupling: every image and every text is an item of its own with its own labels, whether its source
is paired, has no texts, or has no images. Each item knows its study, so that true pairs can be found.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from corpus.errors import TrainingError
from corpus.findings import VOCABULARY, Status, Statuses
from corpus.language.labeler import label_report, label_sentence, label_study
from corpus.language.sections import sentences
from corpus.records import ProblemSink, Report, Source, Study
from corpus.redaction import redacted
from corpus.splits import split_of
from trainer.data.prompts import describe

TextUnit = Literal["report", "sentence", "both"]


@redacted
@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image, with the findings of its study and the sentences of its report, if there is one."""

    item_id: str
    location: str
    study_id: str
    subject_id: str
    statuses: Statuses
    report_text: str | None = None


@redacted
@dataclass(frozen=True, slots=True)
class Text:
    """One distinct text with its own labels, and the studies and subjects that it belongs to."""

    text: str
    studies: frozenset[str]
    statuses: Statuses
    subjects: frozenset[str] = frozenset()


@redacted
@dataclass(frozen=True, slots=True)
class Pool:
    """The items of one split."""

    images: tuple[ImageItem, ...]
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class SourceCount:
    """The items that a run takes from one source. `unlabelled` items have no known finding."""

    source: str
    subjects: int
    images: int
    texts: int
    unlabelled: int


@redacted
@dataclass(frozen=True, slots=True)
class Gathered:
    """The corpus of a run.

    `train`: the training items.
    `val`: the items of the validation split; its texts are reports, whatever those of `train` are.
    `sources`: counts.
    `subjects`: all subjects of both splits.
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
    """Read sources into a training and a validation pool, without subjects of the test split.

    Args:
        sources: (name, source) each; the name goes into the record.
        unit: whether a text is a report's described part, each of its sentences, or both.
        on_problem: called with every unreadable item.
        need_labels: exclude items without any known finding (for a loss over labels).
        prompts: number of texts made from the findings of each study that has images and no report.
        seed: of the made texts.
        whole: put all subjects into both pools, for a cross-validation, which splits them itself.

    Raises:
        TrainingError: nothing can be learned from these sources; the message says what is missing.
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
            known = label_study(study)
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
        """The counts of the source."""
        numbers = (self.items[kind] for kind in ("images", "texts", "unlabelled"))
        return SourceCount(source, len(self.subjects), *numbers)


class _Collector:
    """Collects the items of one split; identical texts become one."""

    def __init__(self, unit: TextUnit, prompts: int, rng: np.random.Generator) -> None:
        self._unit = unit
        self._prompts, self._rng = prompts, rng
        self._images: list[ImageItem] = []
        self._texts: dict[str, tuple[set[str], set[str], Statuses]] = {}
        self.subjects: set[str] = set()

    def add(self, study: Study, count: _Count) -> None:
        """Add the items of a study; its findings already include those of its report."""
        self.subjects.add(study.subject_id)
        count.subjects.add(study.subject_id)
        report_text = " ".join(sentences(study.report)) if study.report else None
        for image in study.images:
            known = (study.study_id, study.subject_id, study.findings, report_text)
            self._images.append(ImageItem(image.item_id, image.location, *known))
        count.items["images"] += len(study.images)
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
        parts = sentences(report)
        if self._unit in ("report", "both") and parts:
            yield " ".join(parts), label_report(report)
        if self._unit in ("sentence", "both"):
            known = {sentence: self._texts.get(sentence) for sentence in parts}
            for sentence, existing in known.items():
                yield sentence, existing[-1] if existing else label_sentence(sentence, report.language)

    def pool(self, need_labels: bool) -> Pool:
        """The collected items; where labels are needed, without those that have no known finding."""
        texts = (
            Text(text, frozenset(studies), statuses, frozenset(subjects))
            for text, (studies, subjects, statuses) in self._texts.items()
        )
        return Pool(
            tuple(p for p in self._images if p.statuses or not need_labels),
            tuple(t for t in texts if t.statuses or not need_labels),
        )

    @property
    def totals(self) -> tuple[int, int]:
        """Numbers of images and texts, labelled or not."""
        return len(self._images), len(self._texts)


def _check(gathered: Gathered, train: _Collector, need_labels: bool) -> None:
    images, texts = train.totals
    if len(gathered.subjects) == 1:
        raise TrainingError("the corpus has one subject only: none can be held out; add a source")
    if not images:
        raise TrainingError("the corpus has no images of training subjects; add a source that has some")
    if not texts:
        raise TrainingError(
            "the corpus has no texts to learn from; add a source with reports, such as openi:PATH"
        )
    if not gathered.train.images or not gathered.train.texts:
        which = "texts" if gathered.train.images else "images"
        raise TrainingError(
            f"no label is known of any of the corpus's {which}: a loss over findings cannot be computed; "
            f"add labels, or train with infonce on true pairs"
        )
    if need_labels:
        seen = {_signature(image.statuses) for image in gathered.train.images}
        seen |= {_signature(text.statuses) for text in gathered.train.texts}
        if len(seen) == 1:
            raise TrainingError("every image and text has the same findings: there is nothing to tell apart")


def _signature(statuses: Statuses) -> tuple[Status, ...]:
    return tuple(statuses.get(name, Status.UNMENTIONED) for name in VOCABULARY.names)
