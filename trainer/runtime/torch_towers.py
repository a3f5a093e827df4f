"""The towers of an encoder run by torch: an open_clip model, frozen, on any device of torch.

They serve folders without exported graphs, devices other than the CPU, and saliency methods, which need the
layers. Importing this module imports torch, open_clip, timm and transformers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from trainer.runtime import encoder_folder as files
from trainer.runtime.clip_model import read_model
from trainer.runtime.device import choose_device
from trainer.runtime.feature_maps import (
    backbone_features,
    patch_features,
    project_whole_and_map,
    timm_tower,
)

Vectors = NDArray[np.float32]


class TorchTowers:
    """An open_clip model as the towers of an encoder. Threads may share it.

    `model`: the open_clip model. `device`: where it is.
    `mean`, `std`: (1, channels, 1, 1), of pixels in [0, 1].
    """

    def __init__(self, model: nn.Module, preprocessing: Mapping[str, Any], device: torch.device) -> None:
        """Take over a model; it is moved to the device, frozen, and put into evaluation mode.

        Args:
            model: an open_clip model.
            preprocessing: `mean` and `std` of each channel, for pixels in [0, 1]. More keys are ignored.
            device: as the attribute.
        """
        self.device = device
        self.mean = torch.tensor(preprocessing["mean"], device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(preprocessing["std"], device=device).view(1, -1, 1, 1)
        self._model: Any = model.to(device).eval().requires_grad_(False)

    @classmethod
    def of_folder(cls, folder: Path, device: str) -> "TorchTowers":
        """Read the model of an encoder folder after checking its files.

        Args:
            folder: an encoder folder.
            device: `auto` (cuda, then mps, then cpu) or a torch device name.

        Raises:
            EncoderError: the folder is incomplete or edited, or the device cannot be used.
        """
        files.verify(folder, graphs=False)
        config = files.read_json(folder / files.CONFIG)
        model = read_model(folder, config)
        return cls(model, config["preprocess_cfg"], choose_device(device))

    @property
    def model(self) -> nn.Module:
        """The open_clip model."""
        return cast(nn.Module, self._model)

    def inputs(self, framed: Vectors) -> torch.Tensor:
        """(n, side, side) in [0, 1] → (n, channels, side, side) normalised, on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(framed, np.float32)).to(self.device)
        return (pixels.unsqueeze(1) - self.mean) / self.std

    @torch.inference_mode()
    def images(self, framed: Vectors) -> Vectors:
        """(n, side, side) in [0, 1] → (n, dim) unit rows."""
        return _array(F.normalize(self._model.encode_image(self.inputs(framed)).float(), dim=-1))

    @torch.inference_mode()
    def patches(self, framed: Vectors) -> Vectors:
        """(n, side, side) in [0, 1] → (n, gh, gw, dim), unit along dim.

        Raises:
            EncoderError: the network has no feature map to project.
        """
        return _array(F.normalize(patch_features(self._model, self.inputs(framed)).float(), dim=-1))

    @torch.inference_mode()
    def images_and_patches(self, framed: Vectors) -> tuple[Vectors, Vectors]:
        """What `images` and `patches` return, in one pass through the backbone.

        Raises:
            EncoderError: as `patches`.
        """
        visual, backbone = timm_tower(self._model)
        features = backbone.forward_features(self.inputs(framed))
        whole, patches = project_whole_and_map(visual, features)
        return _array(F.normalize(whole.float(), dim=-1)), _array(F.normalize(patches.float(), dim=-1))

    @torch.inference_mode()
    def backbone(self, framed: Vectors) -> Vectors:
        """(n, side, side) in [0, 1] → (n, channels): the backbone's last feature map, averaged.

        Raises:
            EncoderError: as `patches`.
        """
        return _array(backbone_features(self._model, self.inputs(framed)).float())

    @torch.inference_mode()
    def texts(self, tokens: NDArray[np.int64]) -> Vectors:
        """(n, length) token ids, padded → (n, dim) unit rows."""
        on_device = torch.from_numpy(tokens).to(self.device)
        return _array(F.normalize(self._model.encode_text(on_device).float(), dim=-1))


def _array(rows: torch.Tensor) -> Vectors:
    array: Vectors = rows.cpu().numpy()
    return array
