"""Everything a run has before its first step: corpus, towers, decoded pictures, cached frozen parts."""

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
from corpus.records import Problem
from corpus.redaction import redacted
from corpus.sources import open_source
from corpus.tables.options import TableOptions
from trainer.data.features import ImageSide, TextSide, encode_all
from trainer.data.frozen_features import freeze_text_tower, recompute_text_tower
from trainer.data.image_cache import decode
from trainer.data.items import Gathered, Pool, gather
from trainer.models.registry import Architecture, find_architecture
from trainer.runtime.tokens import WindowTokenizer
from trainer.train.config import TrainConfig, public_name
from trainer.train.distributed import ALONE, Processes
from trainer.train.state import RunFolder
from trainer.train.towers import Towers, build_towers

logger = logging.getLogger(__name__)

Index = NDArray[np.int64]

_MONITORED = 2000  # more items than this do not make the score of an epoch surer


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: `done` of `total` in a stage, and a note.

    Stages: gather, decode, freeze, read, train, epoch, export.
    """

    stage: str
    done: int
    total: int
    note: str = ""


OnProgress = Callable[[Progress], None]


@redacted
@dataclass(frozen=True, slots=True)
class Side:
    """One split, ready for the network: items, and what turns them into features."""

    pool: Pool
    images: ImageSide
    texts: TextSide

    def only(self, pictures: Index, texts: Index) -> "Side":
        """The same side with some of its pictures and texts, by their places in the pool."""
        some = Pool(
            tuple(self.pool.pictures[place] for place in pictures),
            tuple(self.pool.texts[place] for place in texts),
        )
        return Side(some, self.images.only(pictures), self.texts.only(texts))

    def encode(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unit vectors of the pictures (n, dim) and of the texts (m, dim), as the model is now."""
        pictures = encode_all(
            lambda index: self.images.features(index, training=False), len(self.pool.pictures)
        )
        return pictures, encode_all(self.texts.features, len(self.pool.texts))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before its first step. `val` is None when nobody is held out for tuning."""

    corpus: Gathered
    towers: Towers
    train: Side
    val: Side | None
    problems: Counter[str] = field(default_factory=Counter)

    def signature(self) -> str:
        """Changes when the items or the tokenizer do: a run is only resumed on what it began with."""
        digest = hashlib.sha256()
        for picture in self.train.pool.pictures:
            digest.update(f"{picture.item_id}\0{sorted(picture.statuses.items())}\0".encode())
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
    """Gather the corpus, build the towers, decode the pictures and run what is frozen once.

    Of several processes the first one decodes and keeps, the others read what it kept. `whole`: both sides
    hold everyone, for a cross-validation (`trainer.train.folds`).

    Raises:
        TrainingError, CorpusError, UsageError, EncoderError: as `trainer.train.loop.train` says.
    """
    problems: Counter[str] = Counter()

    def note(problem: Problem) -> None:
        problems[problem.state] += 1
        if processes.first:
            folder.note_problem(problem)

    def side(name: str, pool: Pool) -> Side:
        return _side(name, pool, config, towers, folder, note, on_progress, device, processes)

    architecture = find_architecture(config.arch)  # a wrong name is told before the work
    corpus = _gather(config, note, on_progress, whole)
    towers = _build(config, architecture, corpus)
    towers.model.to(device)
    train = side("train", corpus.train)
    val = None
    if corpus.val.pictures and corpus.val.texts:
        few = None if whole else _MONITORED
        val = side("val", Pool(corpus.val.pictures[:few], corpus.val.texts[:few]))
    else:
        logger.warning("nobody is held out for tuning: the last epoch is kept, not the best")
    return Prepared(replace(corpus, train=train.pool), towers, train, val, problems)


def _gather(
    config: TrainConfig, note: Callable[[Problem], None], on_progress: OnProgress, whole: bool
) -> Gathered:
    if not config.corpus:
        raise TrainingError("there is no corpus to train on; name one with --corpus KIND:PATH")
    on_progress(Progress("gather", 0, len(config.corpus)))
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
    found = f"{len(gathered.train.pictures)} pictures, {len(gathered.train.texts)} texts"
    on_progress(Progress("gather", len(sources), len(sources), found))
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
    model.eval()
    return towers


def _side(
    name: str,
    pool: Pool,
    config: TrainConfig,
    towers: Towers,
    folder: RunFolder,
    note: Callable[[Problem], None],
    on_progress: OnProgress,
    device: torch.device,
    processes: Processes,
) -> Side:
    shape = towers.architecture
    framing = Framing(int(shape.model_cfg["vision_cfg"]["image_size"]))

    def tick(stage: str, what: str) -> Callable[[int, int], None]:
        return lambda done, total: on_progress(Progress(stage, done, total, f"{name} {what}"))

    file, frozen_file = folder.cache / f"{name}.npy", folder.cache / f"{name}-frozen.npy"
    readable = processes.from_first(
        lambda: decode(
            pool.pictures, framing, file, note, workers=config.workers, tick=tick("decode", "pictures")
        )
    )
    images = ImageSide(
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
    texts = TextSide(towers.model, tokenizer, [text.text for text in pool.texts], config.freeze, device)
    if processes.from_first(lambda: images.fill_cache(frozen_file, tick("freeze", "pictures"))):
        images.open_cache(frozen_file)
    texts.fill_cache(tick("freeze", "texts"))
    return Side(Pool(tuple(pool.pictures[place] for place in readable), pool.texts), images, texts)
