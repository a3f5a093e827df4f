"""Image files of any kind, decoded to one plane of grey."""
