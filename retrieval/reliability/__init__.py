"""Conformal guarantee, out-of-distribution detector, abstention."""
