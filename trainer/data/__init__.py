"""What a training run learns from: items, sampling, features, targets."""
