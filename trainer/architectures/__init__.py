"""Shapes of encoders as data: one JSON file each.

`model_cfg` and `preprocess_cfg` are open_clip's. `text_tower` is the configuration of a text tower from
scratch; `image_weights` and `text_weights` are the default initial weights of the towers.
"""
