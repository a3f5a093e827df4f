"""Saliency maps of an encoder: where in an image it sees what a text states."""
