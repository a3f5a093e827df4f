"""The page that a radiologist opens: HTML, CSS and ES modules, served as they lie here."""
