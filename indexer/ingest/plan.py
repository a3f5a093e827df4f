"""The cost of `index add`, estimated without writing anything, not even the home."""

import os
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus.images.decoder import Decoded, decode
from corpus.language.sections import has_words, sentences
from corpus.records import Problem, Source, Study

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

SAMPLE_IMAGES = 16
SAMPLE_TEXTS = 64

_BYTES_BESIDE = 1_500
"""Disk of a vector beside its numbers: payload, its indexes, catalog and ledger rows (measured)."""

_BASE_MEMORY = 600 << 20  # the process with torch and both engines, before anything is in it
_WORKER_MEMORY = 350 << 20  # a decode process with one full-size image in it


@dataclass(frozen=True, slots=True)
class Plan:
    """Items of a source and what indexing all of them takes.

    `sampled`: images and texts that were measured; with none, `seconds` counts only the other kind.
    """

    items: dict[str, int]
    problems: dict[str, int]
    seconds: float
    disk_bytes: int
    memory_bytes: int
    sampled: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the form of `docs/contracts/index-plan.schema.json`."""
        return {
            "items": self.items,
            "problems": self.problems,
            "hours": round(self.seconds / 3600, 4),
            "disk_bytes": self.disk_bytes,
            "memory_bytes": self.memory_bytes,
            "sampled": self.sampled,
        }


def plan(source: Source, encoder: "Encoder", workers: int | None = None) -> Plan:
    """Count a source and measure a sample of it.

    Hours are those of the slower of decoding (in `workers` processes) and encoding images, plus encoding
    texts. Items that the index has already cost next to nothing: the plan is that of an empty index.
    """
    workers = max(1, (os.cpu_count() or 1) if workers is None else workers)
    problems: list[Problem] = []
    items = {"studies": 0, "image": 0, "report": 0, "sentence": 0}
    distinct: set[str] = set()
    locations: list[str] = []
    texts: list[str] = []
    for study in source.studies(problems.append):
        items["studies"] += 1
        items["image"] += len(study.images)
        if len(locations) < SAMPLE_IMAGES:
            locations += [image.location for image in islice(study.images, 1)]
        reported = _texts(study)
        items["report"] += bool(reported)
        distinct.update(reported[1:])
        if len(texts) < SAMPLE_TEXTS:
            texts += reported
    items["sentence"] = len(distinct)
    per_image, images = _time_images(locations, encoder, workers)
    per_text = _time_texts(texts[:SAMPLE_TEXTS], encoder)
    vectors = items["image"] + items["report"] + items["sentence"]
    bytes_each = 4 * encoder.dim + _BYTES_BESIDE
    states = [problem.state for problem in problems]
    return Plan(
        items=items,
        problems={state: states.count(state) for state in ("failed", "skipped", "missing")},
        seconds=per_image * items["image"] + per_text * (items["report"] + items["sentence"]),
        disk_bytes=vectors * bytes_each,
        memory_bytes=_BASE_MEMORY + workers * _WORKER_MEMORY + vectors * 4 * encoder.dim,
        sampled={"image": images, "text": len(texts[:SAMPLE_TEXTS])},
    )


def _texts(study: Study) -> list[str]:
    """Return the texts embedded of a report: the whole, then its sentences; none if it describes nothing."""
    if study.report is None or not has_words(study.report.described):
        return []
    return [study.report.described, *sentences(study.report)]


def _time_images(locations: list[str], encoder: "Encoder", workers: int) -> tuple[float, int]:
    decoded = [
        outcome for location in locations if isinstance(outcome := decode(location, encoder.framing), Decoded)
    ]
    if not decoded:
        return 0.0, 0
    framed = np.stack([outcome.framed for outcome in decoded])
    encoder.encode_framed(framed[:1])  # the first call builds what the later ones use
    start = time.perf_counter()
    encoder.encode_framed(framed)
    encoding = (time.perf_counter() - start) / len(decoded)
    decoding = sum(outcome.seconds for outcome in decoded) / len(decoded) / workers
    return max(encoding, decoding), len(decoded)


def _time_texts(texts: list[str], encoder: "Encoder") -> float:
    if not texts:
        return 0.0
    encoder.encode_texts(texts[:1])
    start = time.perf_counter()
    encoder.encode_texts(texts)
    return (time.perf_counter() - start) / len(texts)
