"""From a map to a mask: thresholds, random field, random walker, Segment Anything."""
