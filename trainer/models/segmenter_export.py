"""Write a segmenter's folder: whole or not at all."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from corpus.errors import TrainingError
from trainer.runtime.segmenter import RECORD, WEIGHTS, Shape, fingerprint, hash_weights


def export_segmenter(
    members: Sequence[Mapping[str, Tensor]],
    structures: Sequence[str],
    cuts: Sequence[float],
    shape: Shape,
    record: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write the checkpoints that answer together, in place of a segmenter of that name.

    Args:
        members: state dicts of `trainer.runtime.unet.ResidualUNet`, one or more.
        structures: what its channels are.
        cuts: from which probability a pixel is inside, one a structure.
        shape: of each member.
        record: what goes into `segmenter.json` besides.
        folder: where it goes.

    Raises:
        TrainingError: the weights are not finite, the folder holds something else, or the disk is full.
    """
    state = {f"{n}.{name}": t.contiguous() for n, member in enumerate(members) for name, t in member.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise TrainingError("the weights are not finite; nothing was exported")
    if folder.exists() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise TrainingError(f"{folder} holds something that is no segmenter; name another folder")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
            fresh = Path(made) / "segmenter"
            fresh.mkdir()
            save_file(state, fresh / WEIGHTS)
            digest = hash_weights(fresh)
            whole = {
                "name": folder.name,
                "structures": list(structures),
                "cuts": list(cuts),
                "shape": asdict(shape),
                "members": len(members),
                "fingerprint": fingerprint(digest, structures, cuts, shape),
                "weights_sha256": digest,
                "licence": "Learned from pictures and masks of others; their licences bind its use.",
                **record,
            }
            (fresh / RECORD).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8")
            if folder.exists():
                folder.rename(Path(made) / "replaced")
            fresh.rename(folder)
    except OSError as error:
        raise TrainingError(
            f"the segmenter cannot be written to {folder}: {error}; free some space"
        ) from error
    return folder
