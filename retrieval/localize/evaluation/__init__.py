"""Evaluation of localization against ground truth, beside image-agnostic baselines."""
