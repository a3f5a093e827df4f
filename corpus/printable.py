"""What goes to a terminal: other people's text without signs that do anything, and numbers in human units.

Imports nothing, so that the commands' help stays quick.
"""


def one_line(text: object) -> str:
    """Return the text with control signs, line breaks and stray bytes written out (`a\\nb`)."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(text))


def spelled_bytes(count: int) -> str:
    """Return a number of bytes as people read it: `999 B`, `5.3 MB`, `1.4 GB`."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.{1 if size < 100 and units[0] != 'B' else 0}f} {units[0]}"


def spelled_duration(seconds: float) -> str:
    """Return a time as people read it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
