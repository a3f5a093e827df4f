"""The demonstration: every step once on phantoms, and a page of what came out."""
