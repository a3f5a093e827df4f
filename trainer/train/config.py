"""The configuration of a training run: frozen data classes, every setting with its default.

`trainer.train.config_file` reads them from TOML and writes them back.
"""

from dataclasses import dataclass, field
from typing import Literal

from corpus.errors import UsageError
from trainer.data.targets import TargetConfig

LossName = Literal["semantic-matching", "dhn-nce", "infonce", "multi-positive-infonce"]
Unit = Literal["report", "sentence", "both"]
Pairing = Literal["auto", "independent", "matched", "true"]
BatchNorm = Literal["auto", "frozen", "live"]
Keep = Literal["best", "last"]
Start = Literal["aligned", "plain", "pretrained"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The training loss; see `trainer.train.losses`.

    `name`: of the loss.
    `temperature`: of semantic matching's targets, sharper below 1.
    `identity_weight`: share of true pairs in semantic matching's targets.
    `beta1`, `beta2`: weights of hard negatives in DHN-NCE.
    `detach_weights`: treat DHN-NCE's weights as constants.
    `decoupled`: exclude the true pair from DHN-NCE's sum.
    `least`: minimal similarity of a positive in multi-positive InfoNCE.
    `learn_scale`: learn the logit scale; else it stays 1 / `optimizer.temperature`.
    `patches`: weight of the loss between texts and their best patches, which
    teaches where in an image a finding lies; 0: none.
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
        """Whether the loss uses the similarity of labels instead of true pairs."""
        return self.name in ("semantic-matching", "multi-positive-infonce")


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Sampling of batches; see `trainer.data.sampling.Sampler`.

    `text_unit`: a text is a report, a sentence, or either.
    `pairing`: `auto` is independent for losses over labels and true for losses over pairs.
    `texts_per_picture`: texts of its own study per paired image, drawn anew each time.
    `prompts`: number of texts made from the findings of each study without a report.
    `batch_size`: images per step.
    `text_batch_size`: texts per step; 0: as many as images, or all.
    `balance`: in [0, 1]; 1 draws every finding about equally often.
    `steps`: per epoch; 0: each image about once.
    `source_shares`: `SOURCE=SHARE` each, such as `covid-chestxray=0.1`: the share of drawn images from that
    source; the other sources share the rest as without shares.
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
        """Share of each source of `source_shares`.

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
    """Frozen parts of the towers.

    `image_blocks`: number of frozen backbone blocks, with the stem; −1: the whole backbone.
    `text_layers`: number of frozen text layers, with the embeddings; −1: the whole text tower except its
    projection.
    `views`: number of augmented views per image in the cache of frozen activations.
    `cache_gb`: largest cache of frozen activations (float16) in GB; a larger one is not made.
    `batch_norm`: `auto` freezes the statistics of a backbone with initial weights.
    `text_head`: also freeze the text tower's projection. A backbone from scratch gives no signal at first,
    and a projection that learns meanwhile collapses all texts.
    """

    image_blocks: int = 0
    text_layers: int = 0
    views: int = 1
    cache_gb: float = 8.0
    batch_norm: BatchNorm = "auto"
    text_head: bool = False


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """The linear projections at the ends of the towers (`trainer.train.heads`).

    `start`: `aligned` initialises by regression on the labels, `plain` at random; `pretrained` takes over the
    image projection of `image_pretraining`, and is `aligned` for texts.
    `image_ridge`, `text_ridge`: ridge penalties of that regression; more with fewer items per feature.
    `standardise`: train on standardised features.
    `drop`: dropout of the standardised features.
    `normalise`: batch-normalise the image features during training, for a backbone from scratch.
    """

    start: Start = "aligned"
    image_ridge: float = 0.03
    text_ridge: float = 0.03
    standardise: bool = False
    drop: float = 0.0
    normalise: bool = False


@dataclass(frozen=True, slots=True)
class TextPretrainingConfig:
    """Text-tower pretraining (`trainer.train.text_pretraining`); the section `[reading]` of files.

    `epochs`: over the texts; 0: no pretraining. The tower is frozen afterwards: `freeze.text_layers` must be
    −1.
    `learning_rate`: of its layers.
    `head_rate`: of its projection, which is initialised again afterwards.
    `batch_size`: texts per step.
    `frozen_layers`: number of frozen layers, with the embeddings.
    `balance`: as `sampling.balance`.
    `shared`: length of a component that all texts share, relative to a finding. Without it a text encoded as
    half normal and half abnormal is nearest to every image that could be either; with it such a text is only
    shorter, and unambiguous texts rank first.
    """

    epochs: int = 0
    learning_rate: float = 2e-4
    head_rate: float = 1e-3
    batch_size: int = 32
    frozen_layers: int = 2
    balance: float = 0.5
    shared: float = 0.7


@dataclass(frozen=True, slots=True)
class ImagePretrainingConfig:
    """Image-tower pretraining (`trainer.train.image_pretraining`).

    `epochs`: over the images; 0: no pretraining. The neck of the backbone is frozen afterwards.
    `learning_rate`: of neck and projection.
    `weight_decay`: of their matrices.
    `batch_size`: images per step.
    `hidden_patches`: as `augment.hidden_patches`.
    `whole`: weight of the loss over whole images beside that over their strongest patches. It helps to tell
    images apart and harms localization.
    """

    epochs: int = 0
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    batch_size: int = 64
    hidden_patches: float = 0.5
    whole: float = 1.0


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW with warm-up and a cosine to zero.

    `learning_rate`: of the towers.
    `head_rate`: of projections and logit scale; 0: the same.
    `layer_decay`: factor of the rate from each layer of a tower to the one below.
    `weight_decay`: of AdamW.
    `warm_up`: share of all steps.
    `clip`: largest gradient norm.
    `temperature`: initial temperature of the logits.
    `average`: decay of the exponential mean of the weights that is scored and exported; 0: the last weights.
    `keep_start`: share of the initial weights in the weights that are scored and exported.
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
    """Augmentation: small random changes of a training image, without flips.

    `degrees`: of rotation.
    `translate`, `scale`: as shares of the side.
    `brightness`, `contrast`: as factors 1 ± x.
    `hidden_patches`: share of an image's patches hidden from `loss.patches` in each step, so that a finding
    is not learned from its most discriminative patch alone.
    """

    degrees: float = 5.0
    translate: float = 0.04
    scale: float = 0.06
    brightness: float = 0.15
    contrast: float = 0.15
    hidden_patches: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Memory: large batches on small machines.

    `chunk`: items through a tower at once (gradient caching, `trainer.train.step`); 0: the whole batch.
    `precision`: of the towers.
    `recompute`: gradient checkpointing inside the towers.
    """

    chunk: int = 0
    precision: Precision = "float32"
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All settings of a run.

    `corpus`: sources, `KIND:PATH` each.
    `arch`: name or file of the architecture.
    `image_weights`, `text_weights`: initial weights of the towers (`trainer.train.towers`); empty: the
    architecture's.
    `epochs`: at most.
    `seed`: of all random choices.
    `keep`: export the weights of the `best` epoch or of the `last`.
    `patience`: stop after this many epochs without a better lift@5 on the validation split (nDCG@10 where
    lift cannot be measured); 0: never.
    `checkpoint_steps`: steps between checkpoints; 0: at the end of each epoch only.
    `workers`: decode processes; 0: one per core.
    `encoding`, `dates`: of the corpus's tables, as in `--encoding` and `--date-format` (`day_first` or
    `month_first`); empty: detect them.
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
    text_pretraining: TextPretrainingConfig = field(default_factory=TextPretrainingConfig)
    image_pretraining: ImagePretrainingConfig = field(default_factory=ImagePretrainingConfig)
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
            ("reading.epochs", self.text_pretraining.epochs, 0),
            ("reading.learning_rate", self.text_pretraining.learning_rate, 0),
            ("reading.batch_size", self.text_pretraining.batch_size, 1),
            ("reading.frozen_layers", self.text_pretraining.frozen_layers, 0),
            ("reading.balance", self.text_pretraining.balance, 0),
            ("reading.shared", self.text_pretraining.shared, 0),
            ("image_pretraining.epochs", self.image_pretraining.epochs, 0),
            ("image_pretraining.learning_rate", self.image_pretraining.learning_rate, 0),
            ("image_pretraining.weight_decay", self.image_pretraining.weight_decay, 0),
            ("image_pretraining.batch_size", self.image_pretraining.batch_size, 1),
            ("image_pretraining.whole", self.image_pretraining.whole, 0),
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
                "memory.chunk needs batch normalisation on frozen statistics: those of a chunk are not the "
                "batch's; set freeze.batch_norm to frozen or memory.chunk to 0"
            )
        if self.head.start == "pretrained" and not self.image_pretraining.epochs:
            raise UsageError(
                "head.start = pretrained takes over the projection of image_pretraining: set its epochs "
                "above 0, or start to aligned or plain"
            )
        frozen, by_words = self.freeze.image_blocks < 0, self.targets.of == "embedding"
        if self.image_pretraining.epochs and (not frozen or by_words):
            raise UsageError(
                "image_pretraining teaches findings to a neck over a frozen backbone: set "
                "freeze.image_blocks to -1 and targets.of to findings or concepts, or set "
                "image_pretraining.epochs to 0"
            )
        if self.text_pretraining.epochs and (self.freeze.text_layers >= 0 or not self.needs_labels):
            raise UsageError(
                "reading.epochs teaches the text tower findings and then freezes it: set freeze.text_layers "
                "to -1, and take a loss over findings or matched pairs, or set reading.epochs to 0"
            )
        _ = self.sampling.shares
        for name, share in (
            ("optimizer.average", self.optimizer.average),
            ("optimizer.keep_start", self.optimizer.keep_start),
            ("head.drop", self.head.drop),
            ("augment.hidden_patches", self.augment.hidden_patches),
            ("image_pretraining.hidden_patches", self.image_pretraining.hidden_patches),
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
        """Whether the run can use only items with a known finding."""
        by_findings = self.loss.by_labels and self.targets.of != "embedding"
        return by_findings or self.pairing == "matched"
