"""Vector stores: one protocol, two engines."""
