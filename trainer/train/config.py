"""The configuration of a training run: frozen, read from TOML, written back resolved.

Every setting has its default here. A key that no setting has is refused with the nearest that one has.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from corpus.errors import UsageError
from trainer.data.targets import TargetConfig

LossName = Literal["semantic-matching", "dhn-nce", "infonce", "multi-positive-infonce"]
Unit = Literal["report", "sentence", "both"]
Pairing = Literal["auto", "independent", "matched", "true"]
BatchNorm = Literal["auto", "frozen", "live"]
Keep = Literal["best", "last"]
Start = Literal["aligned", "plain"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """What training minimises; see `trainer.train.losses`.

    Semantic matching: `temperature` sharpens its targets below 1, `identity_weight` leans them on true pairs.
    DHN-NCE: `beta1` and `beta2` weigh hard negatives, `detach_weights` takes the weights as constants,
    `decoupled` leaves the true pair out of the sum. Multi-positive InfoNCE: positives are at least `least`
    alike. `learn_scale`: learn the logit scale, too, else it stays 1 / `optimizer.temperature`. `patches`:
    weight of the loss between texts and the patches that fit them best (`trainer.train.patch_loss`), which
    teaches where in a picture a finding lies; 0: none.
    """

    name: LossName = "semantic-matching"
    temperature: float = 0.1
    identity_weight: float = 0.0
    beta1: float = 0.15
    beta2: float = 0.15
    detach_weights: bool = True
    decoupled: bool = True
    least: float = 0.5
    learn_scale: bool = True
    patches: float = 0.0

    @property
    def by_labels(self) -> bool:
        """Whether the loss goes by the likeness of labels, and not by true pairs."""
        return self.name in ("semantic-matching", "multi-positive-infonce")


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How batches are drawn; see `trainer.data.sampling.Sampler`.

    `text_unit`: a text is a report, a sentence, or either. `pairing`: `auto` is independent for losses that
    go by labels and true for those that go by pairs. `texts_per_picture`: how many texts of its own a paired
    picture meets at once, drawn anew each time. `prompts`: how many texts are made from the findings of each
    picture that has no report. `text_batch_size` 0: as many texts as pictures, or all. `steps` an epoch, 0:
    each picture about once. `source_shares`: `SOURCE=SHARE` each, such as `covid-chestxray=0.1`: how much
    of all draws of pictures comes from that source; the other sources share the rest as they are.
    """

    text_unit: Unit = "both"
    pairing: Pairing = "auto"
    texts_per_picture: int = 1
    prompts: int = 0
    batch_size: int = 32
    text_batch_size: int = 0
    balance: float = 0.0
    steps: int = 0
    source_shares: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """`source_shares` by source.

        Raises:
            UsageError: an entry is not of the form `SOURCE=SHARE`, or the shares leave nothing for the rest.
        """
        shares: dict[str, float] = {}
        for entry in self.source_shares:
            source, _, share = entry.rpartition("=")
            try:
                shares[source] = float(share)
            except ValueError:
                raise UsageError(
                    f"sampling.source_shares: write SOURCE=SHARE such as openi=0.2, not {entry!r}"
                ) from None
        if any(share < 0 for share in shares.values()) or sum(shares.values()) > 1:
            raise UsageError("sampling.source_shares must be at least 0 each and at most 1 together")
        return shares


@dataclass(frozen=True, slots=True)
class FreezeConfig:
    """What of the towers stays as it was loaded.

    `image_blocks`: the stem and so many of the trunk's blocks; −1 the whole trunk. `text_layers`: the
    embeddings and so many layers; −1 the whole text tower but its projection. The activations of what is
    frozen are computed once and kept (float16) where they fit into `cache_gb`; `views` is how many
    augmented views of a picture are kept then. `batch_norm`: `auto` freezes the statistics of a trunk that
    starts from weights. `text_head`: the text tower's projection stays where it began, too. A trunk from
    scratch has nothing to say at first; a projection that learns meanwhile draws all texts together.
    """

    image_blocks: int = 0
    text_layers: int = 0
    views: int = 1
    cache_gb: float = 8.0
    batch_norm: BatchNorm = "auto"
    text_head: bool = False


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """The linear projections at the towers' ends, and where they begin.

    `start`: `aligned` begins near what the labels say (`trainer.train.projection_start`), `plain` at random.
    `image_ridge` and `text_ridge` damp that beginning, the fewer items for their features the more.
    `standardise`: learn on standardised features (`trainer.train.heads`), of which a share `drop` is left out
    at each step. `normalise`: the image side's are batch-normalised as it learns, for a trunk from scratch.
    """

    start: Start = "aligned"
    image_ridge: float = 0.03
    text_ridge: float = 0.03
    standardise: bool = False
    drop: float = 0.0
    normalise: bool = False


@dataclass(frozen=True, slots=True)
class ReadingConfig:
    """Whether and how the text tower first learns to read; see `trainer.train.text_pretraining`.

    `epochs` of the texts, 0: it does not. `learning_rate` of its layers, `head_rate` of its projection, which
    afterwards begins anew (`trainer.train.projection_start`). `frozen_layers`: the embeddings and so many
    layers stay as they are. `balance` as `sampling.balance`. The tower is then left as it reads:
    `freeze.text_layers` must be −1.
    `shared`: how long, beside a finding, what all texts have in common is. Without it a text that is read as
    half normal, half something else lies nearest to every picture that could be either; beside a shared part
    it is merely short, and what is wholly the one or the other comes first.
    """

    epochs: int = 0
    learning_rate: float = 2e-4
    head_rate: float = 1e-3
    batch_size: int = 32
    frozen_layers: int = 2
    balance: float = 0.5
    shared: float = 0.7


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW with warm-up and a cosine to zero.

    `learning_rate` of the towers; `head_rate` of projections and logit scale, 0: the same. `layer_decay`:
    each layer of a tower below its last learns by so much of the rate of the one above. `warm_up`: share
    of all steps. `clip`: largest gradient norm. `average`: decay of the running mean of the weights that is
    scored and exported in place of the last step's, 0: none. `keep_start`: share of the weights that
    training began with in what is scored and exported.
    """

    learning_rate: float = 1e-3
    head_rate: float = 0.0
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    warm_up: float = 0.1
    clip: float = 1.0
    temperature: float = 0.07
    average: float = 0.0
    keep_start: float = 0.0


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Small random changes of a training picture; left stays left.

    `degrees` of rotation, `translate` and `scale` as shares, `brightness` and `contrast` as factors 1 ± x.
    `hidden_patches`: share of a picture's patches that `loss.patches` does not see in a step, so that no part
    of a finding can rely on its most telling one.
    """

    degrees: float = 5.0
    translate: float = 0.04
    scale: float = 0.06
    brightness: float = 0.15
    contrast: float = 0.15
    hidden_patches: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Large batches on small machines.

    `chunk`: items that go through a tower at once (gradient caching, `trainer.train.step`), 0: the whole
    batch. `precision` of the towers. `recompute`: keep no activations inside a tower, run its blocks again
    instead.
    """

    chunk: int = 0
    precision: Precision = "float32"
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a run.

    `checkpoint_steps` 0: a checkpoint at each epoch's end only. `patience`: stop after so many epochs without
    a better lift@5 on the people held out for tuning (nDCG@10 where lift cannot be measured), 0: never.
    `encoding` of the tables and `dates` of the manifests of the corpus: as `--encoding` and `--date-format`
    have them, `day_first` or `month_first`; empty where the tables tell.
    """

    corpus: tuple[str, ...] = ()
    arch: str = "tiny"
    image_weights: str = ""
    text_weights: str = ""
    epochs: int = 10
    seed: int = 0
    keep: Keep = "best"
    patience: int = 0
    checkpoint_steps: int = 0
    workers: int = 0
    encoding: str = ""
    dates: str = ""
    loss: LossConfig = field(default_factory=LossConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("sampling.batch_size", self.sampling.batch_size, 2),
            ("sampling.text_batch_size", self.sampling.text_batch_size, 0),
            ("sampling.balance", self.sampling.balance, 0),
            ("sampling.steps", self.sampling.steps, 0),
            ("sampling.texts_per_picture", self.sampling.texts_per_picture, 1),
            ("sampling.prompts", self.sampling.prompts, 0),
            ("memory.chunk", self.memory.chunk, 0),
            ("patience", self.patience, 0),
            ("loss.patches", self.loss.patches, 0),
            ("freeze.views", self.freeze.views, 1),
            ("freeze.image_blocks", self.freeze.image_blocks, -1),
            ("freeze.text_layers", self.freeze.text_layers, -1),
            ("reading.epochs", self.reading.epochs, 0),
            ("reading.learning_rate", self.reading.learning_rate, 0),
            ("reading.batch_size", self.reading.batch_size, 1),
            ("reading.frozen_layers", self.reading.frozen_layers, 0),
            ("reading.balance", self.reading.balance, 0),
            ("reading.shared", self.reading.shared, 0),
            ("optimizer.learning_rate", self.optimizer.learning_rate, 0),
            ("optimizer.clip", self.optimizer.clip, 0),
        ):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, not {value}")
        if not 0 < self.optimizer.layer_decay <= 1:
            raise UsageError(
                f"optimizer.layer_decay must lie in 0…1, above 0, not {self.optimizer.layer_decay}"
            )
        if self.memory.chunk and self.freeze.batch_norm == "live":
            raise UsageError(
                "memory.chunk needs batch normalisation on frozen statistics: a piece's would stand for the "
                "batch's; set freeze.batch_norm to frozen or memory.chunk to 0"
            )
        if self.reading.epochs and (self.freeze.text_layers >= 0 or not self.needs_labels):
            raise UsageError(
                "reading.epochs teaches the text tower findings, and then leaves it: set freeze.text_layers "
                "to -1, and take a loss that goes by findings or matched pairs, or set reading.epochs to 0"
            )
        _ = self.sampling.shares
        for name, share in (
            ("optimizer.average", self.optimizer.average),
            ("optimizer.keep_start", self.optimizer.keep_start),
            ("head.drop", self.head.drop),
            ("augment.hidden_patches", self.augment.hidden_patches),
        ):
            if not 0 <= share < 1:
                raise UsageError(f"{name} must lie in 0…1, below 1, not {share}")

    @property
    def pairing(self) -> Literal["independent", "matched", "true"]:
        """The pairing with `auto` resolved."""
        if self.sampling.pairing != "auto":
            return self.sampling.pairing
        return "independent" if self.loss.by_labels else "true"

    @property
    def needs_labels(self) -> bool:
        """Whether an item without any known finding has nothing to say to this run."""
        by_findings = self.loss.by_labels and self.targets.of != "embedding"
        return by_findings or self.pairing == "matched"


def read_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a configuration and lay overrides over it.

    Args:
        path: a TOML file; None for the defaults.
        overrides: dotted setting → value, such as `{"loss.name": "infonce"}`; None values are passed over.

    Raises:
        UsageError: the file cannot be read, a key is unknown (the nearest is named) or a value does not fit.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"the configuration {path} cannot be read: {error}") from error
    for dotted, value in (overrides or {}).items():
        if value is not None:
            *sections, key = dotted.split(".")
            place = content
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
    config: TrainConfig = _read_section(TrainConfig, content, "")
    return config


def config_table(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return table


def write_toml(config: TrainConfig) -> str:
    """The resolved configuration as TOML that `read_config` reads back to an equal one."""
    table = config_table(config)
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for section, content in table.items():
        if isinstance(content, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in content.items())]
    return "\n".join(lines) + "\n"


def differing(left: TrainConfig, right: TrainConfig) -> list[str]:
    """The dotted names of the settings in which two configurations differ."""
    one, other = _flat(config_table(left)), _flat(config_table(right))
    return [name for name in one if one[name] != other[name]]


def without_places(config: TrainConfig) -> TrainConfig:
    """The configuration as it may leave this machine: sources and weights by name, without their folders."""
    return replace(
        config,
        corpus=tuple(public_name(spec) for spec in config.corpus),
        arch=public_name(config.arch),
        image_weights=public_name(config.image_weights),
        text_weights=public_name(config.text_weights),
    )


def public_name(spec: str) -> str:
    """`openi:/home/a/openi` → `openi:openi`, `/models/a.safetensors` → `a.safetensors`."""
    if spec.startswith(("package:", "timm:", "hf:", "phantom:")):
        return spec
    kind, colon, place = spec.rpartition(":")
    return f"{kind}{colon}{Path(place).name}"


def _read_section(kind: type[Any], content: Mapping[str, Any], prefix: str) -> Any:
    types = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    values = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise UsageError(f"unknown setting {prefix}{key}; {hint}")
        values[key] = _fit(types[key], value, f"{prefix}{key}")
    return kind(**values)


def _fit(kind: Any, value: Any, name: str) -> Any:
    """Check one value against its type; numbers without a point may stand for those with one."""
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise UsageError(f"{name} is a section: write [{name}]")
        return _read_section(kind, value, f"{name}.")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{name} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{name} must be a list of texts")
        return tuple(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UsageError(f"{name} must be a number, not {value}")
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{name} must be of kind {kind.__name__}, not {value!r}")
    return value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON scalar or list of texts is TOML as well
