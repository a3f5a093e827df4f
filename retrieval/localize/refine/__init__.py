"""Refinement: from a saliency map to a mask, by random field, random walker or Segment Anything."""
