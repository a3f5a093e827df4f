"""Shapes of encoders as data: one JSON file each.

`model_cfg` and `preprocess_cfg` are open_clip's. `text_tower`, where there is one, is the configuration of a
text tower that starts from scratch; `image_weights` and `text_weights` name what the towers start from
unless the caller says otherwise.
"""
