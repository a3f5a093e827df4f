"""Encoders by folder or name."""

from pathlib import Path

from trainer.models.resolve import open_encoder
from trainer.runtime.encoder import Encoder


def load_encoder(name: str | Path, *, device: str = "auto", download: bool = False) -> Encoder:
    """Load an encoder: frozen, ready to turn images and texts into unit vectors.

    Args:
        name: a folder (an encoder's, or that of the run which made it), a name under the home's `encoders`, a
            published encoder's name, or `hf-hub:OWNER/REPOSITORY`.
        device: `auto` (exported graphs on the CPU; in torch CUDA, then MPS, then CPU) or a torch device name.
        download: fetch a published encoder that is not here yet. Without it nothing is ever downloaded.

    Returns:
        The encoder: `encode_images` and `encode_texts` return (n, dim) float32 arrays of unit rows.

    Raises:
        EncoderError: there is no such encoder, or its folder is incomplete or edited; the message says what
            to do.
    """
    return open_encoder(name, device=device, download=download)
