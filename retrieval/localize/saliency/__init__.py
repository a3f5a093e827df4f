"""Saliency maps by several methods behind one call."""
