"""What encodes: the encoder and its folder, tokens, feature maps, the segmenter."""
