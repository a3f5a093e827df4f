"""The HTTP service: what other systems and the page call."""
