"""Whether a map answers to its finding and its image."""
