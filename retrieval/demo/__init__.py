"""The demonstration: the whole line on phantoms, and a page of pictures of what came out."""
