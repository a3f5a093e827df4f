"""Training data: items, sampling, features, targets."""
