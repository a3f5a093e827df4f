"""A batch's gradients are the same however it is cut: in pieces, over processes, recomputed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from corpus.errors import UsageError
from tests.encoders import tiny_shape
from tests.trainer.studies import Few
from tests.waiting import DEADLINE_SECONDS
from trainer.data.features import ImageFeatures, TextFeatures
from trainer.data.frozen_features import set_modes
from trainer.data.sampling import Batch
from trainer.models.architecture import Architecture
from trainer.runtime.tokens import WindowTokenizer
from trainer.train.config import FreezeConfig
from trainer.train.config_file import read_config
from trainer.train.distributed import Processes
from trainer.train.losses import DHNNCELoss, InfoNCELoss, SemanticMatchingLoss
from trainer.train.optimizer import build_optimizer, layers_below_the_last
from trainer.train.step import Stepper
from trainer.train.towers import Towers, build_towers

CPU = torch.device("cpu")
TEXTS = [f"{side} {size} pleural effusion {'no pneumothorax ' * count}" for count, (side, size) in enumerate(
    [("left", "small"), ("right", "large"), ("left", "moderate"), ("right", "small"), ("left", "large")] * 2
)]  # fmt: skip
PIXELS = np.random.default_rng(0).integers(0, 256, (11, 32, 32), dtype=np.uint8)
PREPROCESSING = {"mean": [0.5] * 3, "std": [0.25] * 3}
WHOLE = Batch(
    np.array([3, 1, 4, 0, 5, 9, 2, 6, 10]),
    np.array([7, 0, 5, 4, 2, 1, 9]),
    np.array([[0, 1], [1, 2], [2, 2], [5, 0]]),
)
SIMILARITY = torch.rand(9, 7, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def towers() -> Iterator[Towers]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield build_towers(Architecture(name="t", **tiny_shape(image_size=32)), texts=lambda: TEXTS)


def gradients(
    towers: Towers,
    loss: nn.Module,
    chunk: int,
    *,
    dropout: bool = False,
    recompute: bool = False,
    precision: torch.dtype = torch.float32,
) -> tuple[float, dict[str, Tensor]]:
    """The loss of `WHOLE` and the gradient of every parameter, batch norms on stored statistics."""
    model: Any = towers.model
    freeze = FreezeConfig(image_blocks=1) if recompute else FreezeConfig()
    images = ImageFeatures(model, PIXELS, PREPROCESSING, freeze, None, CPU, recompute=recompute)
    texts = TextFeatures(model, WindowTokenizer.of_tokenizer(towers.tokenizer, 32), TEXTS, freeze, CPU)
    set_modes(model, live_batch_norm=False)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3 if dropout else 0.0
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    step = Stepper(
        lambda index: images.features(index, training=True),
        texts.features,
        loss,
        model.logit_scale,
        CPU,
        (32,),
        chunk=chunk,
        precision=precision,
    )
    value = step(WHOLE, SIMILARITY)
    return value, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """To 1e-5 of the largest gradient: float32 knows no better where a tower's gradients nearly cancel."""
    assert left.keys() == right.keys()
    largest = max(float(gradient.abs().max()) for gradient in left.values())
    for name, gradient in left.items():
        torch.testing.assert_close(gradient, right[name], atol=1e-5 * largest, rtol=0, msg=name)


@pytest.mark.parametrize("loss", [SemanticMatchingLoss(0.2), InfoNCELoss(), DHNNCELoss()])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_a_batch_in_pieces_has_the_gradients_of_the_whole(
    towers: Towers, loss: nn.Module, chunk: int
) -> None:
    value, whole = gradients(towers, loss, 0)
    again, pieces = gradients(towers, loss, chunk)
    assert again == pytest.approx(value, abs=1e-5)
    assert {"visual.trunk.conv_stem.weight", "text.proj.weight", "logit_scale"} <= whole.keys()
    assert_same(whole, pieces)


def test_dropout_is_the_same_on_the_way_back(towers: Towers) -> None:
    """With dropout, pieces differ from the whole in their dice, not from themselves run with their graphs."""
    _, cached = gradients(towers, InfoNCELoss(), 4, dropout=True)
    model: Any = towers.model
    images = ImageFeatures(model, PIXELS, PREPROCESSING, FreezeConfig(), None, CPU)
    texts = TextFeatures(
        model, WindowTokenizer.of_tokenizer(towers.tokenizer, 32), TEXTS, FreezeConfig(), CPU
    )
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    left = [images.features(WHOLE.images[start : start + 4], training=True) for start in (0, 4, 8)]
    right = [texts.features(WHOLE.texts[start : start + 4]) for start in (0, 4)]
    loss = InfoNCELoss()(
        torch.cat(left), torch.cat(right), model.logit_scale.exp(), pairs=torch.from_numpy(WHOLE.pairs)
    )
    loss.backward()
    stored = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_same(stored, cached)
    other = gradients(towers, InfoNCELoss(), 4)[1]
    assert not torch.allclose(other["text.proj.weight"], cached["text.proj.weight"], atol=1e-5)


def test_recomputed_activations_give_the_same_gradients(towers: Towers) -> None:
    _, plain = gradients(towers, InfoNCELoss(), 0, dropout=True)
    _, recomputed = gradients(towers, InfoNCELoss(), 0, dropout=True, recompute=True)
    assert_same({name: plain[name] for name in recomputed}, recomputed)


def test_bf16_goes_the_same_way(towers: Towers) -> None:
    value, exact = gradients(towers, InfoNCELoss(), 0)
    again, rough = gradients(towers, InfoNCELoss(), 4, precision=torch.bfloat16)
    assert again == pytest.approx(value, rel=0.05)
    for name in ("visual.head.proj.weight", "text.proj.weight"):
        similarity = torch.cosine_similarity(exact[name].flatten(), rough[name].flatten(), dim=0)
        assert float(similarity) > 0.95


def test_pieces_and_living_batch_norms_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="frozen statistics"):
        read_config(None, {"memory.chunk": 4, "freeze.batch_norm": "live"})


# -- rates


def test_lower_layers_learn_slower_and_heads_at_their_own_rate(towers: Towers) -> None:
    below = layers_below_the_last(towers.model)
    assert below["text.transformer.embeddings.word_embeddings.weight"] == 1
    assert below["text.transformer.encoder.layer.0.output.dense.weight"] == 0
    assert below["visual.trunk.conv_stem.weight"] > below["visual.trunk.conv_head.weight"]
    config = read_config(
        None,
        {"optimizer.learning_rate": 1.0, "optimizer.layer_decay": 0.5, "optimizer.head_rate": 7.0},
    )
    optimizer = build_optimizer(towers.model, config.optimizer)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: rate[id(p)] for name, p in towers.model.named_parameters()}
    assert named["text.transformer.embeddings.word_embeddings.weight"] == 0.5
    assert named["text.transformer.encoder.layer.0.output.dense.weight"] == 1.0
    assert named["visual.trunk.conv_stem.weight"] == 0.5 ** below["visual.trunk.conv_stem.weight"]
    assert named["visual.head.proj.weight"] == 7.0


# -- several processes


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_every_item_of_a_batch_belongs_to_one_process(count: int) -> None:
    stretches = [Processes(rank, 3).stretch(count) for rank in range(3)]
    assert [position for stretch in stretches for position in range(count)[stretch]] == list(range(count))


SCRIPT = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from trainer.train import loop
from trainer.train.config_file import read_config
from tests.trainer.studies import Few
import trainer.train.preparation as preparation

def main():
    folder = Path(sys.argv[1])
    preparation.open_source = lambda spec, **_: Few(folder / "pictures", count=90)
    seen = []
    class Watched(loop.Training):
        def take(self, batch):
            seen.append((self.processes.world, self.processes.rank))
            return super().take(batch)
    loop.Training = Watched
    config = read_config(folder / "config.toml")
    out = loop.train(config, folder / sys.argv[2], device="cpu", resume="--resume" in sys.argv)
    world, rank = seen[0]
    (folder / f"{sys.argv[2]}-{rank}.json").write_text(json.dumps({"world": world, "steps": len(seen)}))

if __name__ == "__main__":
    main()
"""


def test_two_processes_train_the_encoder_that_one_trains(tmp_path: Path) -> None:
    """A real two-process gloo group, started by torchrun; no dropout, so that chance plays no part."""
    shape = tiny_shape(image_size=32)
    shape["text_tower"]["hidden_dropout_prob"] = 0.0
    (tmp_path / "shape.json").write_text(json.dumps(shape))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "config.toml").write_text(
        f'corpus = ["few:all"]\narch = "{tmp_path}/shape.json"\nepochs = 1\nkeep = "last"\n'
        "[sampling]\nbatch_size = 15\n[loss]\nname = 'dhn-nce'\n[memory]\nchunk = 4\n"
        "[augment]\ndegrees = 0\ntranslate = 0\nscale = 0\nbrightness = 0\ncontrast = 0\n"
    )
    (tmp_path / "run.py").write_text(SCRIPT)
    list(Few(tmp_path / "pictures", count=90).studies(lambda problem: None))  # the images are there
    root = str(Path(__file__).parents[2])
    alone = [sys.executable, str(tmp_path / "run.py"), str(tmp_path), "one"]
    together = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(tmp_path / "run.py"), str(tmp_path), "two"),
    ]
    for command in (alone, together):
        done = subprocess.run(
            command, cwd=root, env=_env(root), capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
        assert done.returncode == 0, done.stderr[:3000]
    for rank in (0, 1):
        result = json.loads((tmp_path / f"two-{rank}.json").read_text())
        assert result["world"] == 2
        assert result["steps"] == json.loads((tmp_path / "one-0.json").read_text())["steps"] > 2
    one, two = (_losses(tmp_path / run / "steps.csv") for run in ("one", "two"))
    np.testing.assert_allclose(one, two, rtol=1e-3)


def _env(root: str) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def _losses(file: Path) -> list[float]:
    return [float(line.split(",")[2]) for line in file.read_text().splitlines()[1:]]
