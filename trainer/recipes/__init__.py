"""Recipes: whole training configurations, as TOML."""
