"""Localization: where in an image a finding is, and which parts of two images correspond."""
