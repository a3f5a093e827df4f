"""The tables of the languages that are shipped, and the words of some that are not read."""
