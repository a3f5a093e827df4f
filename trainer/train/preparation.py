"""Preparation of a run: corpus, towers, decoded images, cached activations of frozen parts."""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.geometry import Framing
from corpus.progress import OnProgress
from corpus.records import Problem
from corpus.redaction import redacted
from corpus.sources import open_source
from corpus.tables import TableOptions
from trainer.data.features import ImageFeatures, TextFeatures, encode_all
from trainer.data.frozen_features import freeze_text_tower, recompute_text_tower
from trainer.data.image_cache import decode
from trainer.data.items import Gathered, Pool, gather
from trainer.models.architecture import Architecture, find_architecture
from trainer.runtime.tokens import WindowTokenizer
from trainer.train.config import TrainConfig
from trainer.train.config_file import public_name
from trainer.train.distributed import ALONE, Processes
from trainer.train.image_pretraining import require_neck
from trainer.train.state import RunFolder
from trainer.train.towers import Towers, build_towers

logger = logging.getLogger(__name__)

Index = NDArray[np.int64]

_VALIDATION_ITEMS = 2000  # more items hardly narrow the score of an epoch


@redacted
@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """One split, ready for training or scoring: the items and their features."""

    pool: Pool
    images: ImageFeatures
    texts: TextFeatures

    def only(self, images: Index, texts: Index) -> "PreparedSplit":
        """The split restricted to some images and texts, by their indices in the pool."""
        some = Pool(
            tuple(self.pool.images[index] for index in images),
            tuple(self.pool.texts[index] for index in texts),
        )
        return PreparedSplit(some, self.images.only(images), self.texts.only(texts))

    def encode(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unit vectors of the images (n, dim) and of the texts (m, dim), with the model's present weights."""
        images = encode_all(lambda index: self.images.features(index, training=False), len(self.pool.images))
        return images, encode_all(self.texts.features, len(self.pool.texts))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before its first step.

    `corpus`: the gathered items.
    `towers`: the model.
    `train`, `val`: the splits; `val` is None without subjects held out for tuning.
    `problems`: counts of unreadable items by state.
    """

    corpus: Gathered
    towers: Towers
    train: PreparedSplit
    val: PreparedSplit | None
    problems: Counter[str] = field(default_factory=Counter)

    def signature(self) -> str:
        """A hash of the items and the tokenizer: a run resumes only with those it began with."""
        digest = hashlib.sha256()
        for image in self.train.pool.images:
            digest.update(f"{image.item_id}\0{sorted(image.statuses.items())}\0".encode())
        for text in self.train.pool.texts:
            digest.update(f"{text.text}\0{sorted(text.statuses.items())}\0".encode(errors="replace"))
        backend: Any = self.towers.tokenizer
        digest.update(str(sorted(backend.get_vocab().items())).encode(errors="replace"))
        return digest.hexdigest()


def prepare(
    config: TrainConfig,
    folder: RunFolder,
    on_progress: OnProgress,
    device: torch.device,
    processes: Processes = ALONE,
    *,
    whole: bool = False,
) -> Prepared:
    """Gather the corpus, build the towers, decode the images, and cache the activations of frozen parts.

    Of several processes the first one decodes and writes, the others read. `whole`: both splits contain all
    subjects, for a cross-validation (`trainer.train.folds`).

    Raises:
        TrainingError, CorpusError, UsageError, EncoderError: as `trainer.train.loop.train` says.
    """
    problems: Counter[str] = Counter()

    def note(problem: Problem) -> None:
        problems[problem.state] += 1
        if processes.first:
            folder.note_problem(problem)

    def split(name: str, pool: Pool) -> PreparedSplit:
        return _prepare_split(name, pool, config, towers, folder, note, on_progress, device, processes)

    architecture = find_architecture(config.arch)  # first, so that a wrong name fails before the work
    corpus = _gather(config, note, on_progress, whole)
    towers = _build(config, architecture, corpus)
    towers.model.to(device)
    train = split("train", corpus.train)
    val = None
    if corpus.val.images and corpus.val.texts:
        few = None if whole else _VALIDATION_ITEMS
        val = split("val", Pool(corpus.val.images[:few], corpus.val.texts[:few]))
    else:
        logger.warning("no subjects are held out for tuning: the last epoch is exported, not the best")
    return Prepared(replace(corpus, train=train.pool), towers, train, val, problems)


def _gather(
    config: TrainConfig, note: Callable[[Problem], None], on_progress: OnProgress, whole: bool
) -> Gathered:
    if not config.corpus:
        raise TrainingError("there is no corpus to train on; name one with --corpus KIND:PATH")
    on_progress("gather", 0, len(config.corpus))
    tables = TableOptions(config.encoding or None, config.dates or None)
    sources = [(public_name(spec), open_source(spec, tables=tables)) for spec in config.corpus]
    gathered = gather(
        sources,
        config.sampling.text_unit,
        note,
        need_labels=config.needs_labels,
        prompts=config.sampling.prompts,
        seed=config.seed,
        whole=whole,
    )
    found = f"{len(gathered.train.images)} images, {len(gathered.train.texts)} texts"
    on_progress("gather", len(sources), len(sources), found)
    return gathered


def _build(config: TrainConfig, architecture: Architecture, corpus: Gathered) -> Towers:
    towers = build_towers(
        architecture,
        image_weights=config.image_weights or None,
        text_weights=config.text_weights or None,
        texts=lambda: [text.text for text in corpus.train.texts],
    )
    model: Any = towers.model
    with torch.no_grad():
        model.logit_scale.fill_(math.log(1 / config.optimizer.temperature))
    freeze_text_tower(model.text, config.freeze.text_layers)
    if config.memory.recompute and config.freeze.text_layers >= 0:
        recompute_text_tower(model.text)
    if config.image_pretraining.epochs:
        require_neck(model)  # before the work of decoding
    model.eval()
    return towers


def _prepare_split(
    name: str,
    pool: Pool,
    config: TrainConfig,
    towers: Towers,
    folder: RunFolder,
    note: Callable[[Problem], None],
    on_progress: OnProgress,
    device: torch.device,
    processes: Processes,
) -> PreparedSplit:
    shape = towers.architecture
    framing = Framing(int(shape.model_cfg["vision_cfg"]["image_size"]))

    def report(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        on_progress(stage, done, total, f"{name} {note}")

    file, frozen_file = folder.cache / f"{name}.npy", folder.cache / f"{name}-frozen.npy"
    readable = processes.from_first(
        lambda: decode(pool.images, framing, file, note, workers=config.workers, on_progress=report)
    )
    images = ImageFeatures(
        towers.model,
        np.load(file, mmap_mode="r")[: len(readable)],
        shape.preprocess_cfg,
        config.freeze,
        config.augment if name == "train" else None,
        device,
        recompute=config.memory.recompute,
        patches=config.loss.patches > 0,
    )
    tokenizer = WindowTokenizer.of_tokenizer(
        towers.tokenizer, int(shape.model_cfg["text_cfg"]["context_length"])
    )
    texts = TextFeatures(towers.model, tokenizer, [text.text for text in pool.texts], config.freeze, device)
    if processes.from_first(lambda: images.fill_cache(frozen_file, report)):
        images.open_cache(frozen_file)
    texts.fill_cache(report)
    return PreparedSplit(Pool(tuple(pool.images[index] for index in readable), pool.texts), images, texts)
