"""A folder that was moved is read by plain open_clip alone, by the lines of its own card."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.encoders import build_tiny_encoder
from tests.waiting import DEADLINE_SECONDS
from trainer.runtime.encoder import Encoder

TEXTS = ["no pleural effusion", "small left pneumothorax"]

READ = """
import sys
import numpy, torch
with torch.inference_mode():
    texts = model.eval().encode_text(tokenizer({texts!r}), normalize=True)
    images = model.encode_image(torch.full((1, 3, 64, 64), 0.5), normalize=True)
numpy.savez({out!r}, texts=texts.numpy(), images=images.numpy())
ours = sorted({{"corpus", "trainer", "indexer", "retrieval"}} & set(sys.modules))
assert not ours, ours
"""


def lines_of_the_card(folder: Path, position: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    assert 'folder = "."' in code
    return str(code).replace('folder = "."', f"folder = {position!r}")


@pytest.mark.parametrize("position", ["moved", ".", None], ids=["relative", "inside", "absolute"])
def test_the_lines_of_the_card_read_a_moved_folder_without_similarity(
    tmp_path: Path, position: str | None
) -> None:
    made = build_tiny_encoder(tmp_path / "made", seed=5)
    wanted = Encoder.load(made).encode_texts(TEXTS)
    moved = made.rename(tmp_path / "moved")
    stored = (moved / "open_clip_config.json").read_bytes()
    assert b"made" in stored  # it still names the folder where it was made, which is gone
    out = tmp_path / "vectors.npz"
    code = lines_of_the_card(moved, position or str(moved)) + READ.format(texts=TEXTS, out=str(out))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=moved if position == "." else tmp_path,
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    vectors = np.load(out)
    np.testing.assert_allclose(vectors["texts"], wanted, atol=1e-5)
    assert vectors["images"].shape == (1, 32)
    assert (moved / "open_clip_config.json").read_bytes() == stored
