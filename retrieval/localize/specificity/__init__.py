"""Specificity: when a saliency map is specific to its finding and its image."""
