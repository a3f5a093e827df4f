"""Phantoms: drawn examinations with a ground truth that is exact to the pixel.

One scene gives the image (projected attenuation), the report that describes it, and the exact mask of each
finding, all determined by (seed, number). For demonstrations, for tests, and for the evaluation of
localization.
"""

from corpus.phantom.render import SIZE, masks, organs, render
from corpus.phantom.report import describe
from corpus.phantom.scene import Scene, scene

__all__ = ["SIZE", "Scene", "describe", "masks", "organs", "render", "scene"]
