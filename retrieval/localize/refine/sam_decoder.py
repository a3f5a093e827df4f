"""SAM's mask decoder for several prompts of one region: the answer of the highest predicted IoU.

The published decoder draws a mask for every prompt and predicts how well it fits (Kirillov et al., arXiv
2304.02643, section 3). The prediction needs the transformer alone, so that only the chosen prompt's mask is
drawn; and the prompts of one image share the first projections of its embedding. The numbers are those of
`segment_anything.modeling.MaskDecoder.forward` with `multimask_output=False`.
"""

from typing import Any

import torch
from torch import Tensor


def draw_best(
    model: Any, embedding: Tensor, sparse: Tensor, dense: Tensor, choices: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the mask of each region by that of its prompts for which the model predicts the highest IoU.

    Args:
        model: a SAM.
        embedding: (1, 256, 64, 64), of the image.
        sparse: (regions × choices, tokens, 256) of the prompt encoder, the prompts of a region in a row.
        dense: (1 or regions × choices, 256, 64, 64) of the prompt encoder.
        choices: prompts of each region.

    Returns:
        The logits, (regions, 1, 256, 256); which prompt was chosen, (regions,) int64; and its predicted IoU,
        (regions,).
    """
    decoder = model.mask_decoder
    prompts = len(sparse)
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([outputs.expand(prompts, -1, -1), sparse], dim=1)
    position = model.prompt_encoder.get_dense_pe()
    # One image for all prompts: the transformer's products of image and tokens broadcast.
    hidden, cells = decoder.transformer(embedding + dense, position, tokens)
    # In bfloat16 the predictions near 0.9 have steps of 0.004, and ties would go to the smallest prompt.
    with torch.autocast(embedding.device.type, enabled=False):
        predicted = decoder.iou_prediction_head(hidden[:, 0].float())[:, 0].view(-1, choices)
    chosen = predicted.argmax(dim=1)
    rows = torch.arange(len(chosen), device=chosen.device) * choices + chosen
    _, channels, height, width = embedding.shape
    drawn = cells[rows].transpose(1, 2).reshape(-1, channels, height, width)
    upscaled = decoder.output_upscaling(drawn)
    weights = decoder.output_hypernetworks_mlps[0](hidden[rows, 1])
    logits = torch.einsum("nc,nchw->nhw", weights, upscaled)[:, None]
    return logits, chosen, predicted.gather(1, chosen[:, None])[:, 0]
