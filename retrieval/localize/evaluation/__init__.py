"""Localization measured against ground truth, beside baselines."""
