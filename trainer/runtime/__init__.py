"""Inference: the encoder and its folder, tokens, feature maps, the segmenter. Other layers may import it."""
