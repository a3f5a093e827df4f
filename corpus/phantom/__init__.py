"""Phantoms: examinations whose truth is known to the pixel.

One scene gives the film (projected attenuation), the report that describes it, and the exact mask of each
finding, all decided by (seed, number). For demonstrations, for tests, and for measuring localization.
"""

from corpus.phantom.render import SIZE, masks, organs, render
from corpus.phantom.report import describe
from corpus.phantom.scene import Scene, scene

__all__ = ["SIZE", "Scene", "describe", "masks", "organs", "render", "scene"]
