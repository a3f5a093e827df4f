"""The corpus layer: reads studies, images, reports and findings from their sources.

It knows no model and no database. `corpus.sources.open_source` opens a source by its name on the command
line; the records are in `corpus.records`, the vocabulary in `corpus.findings`.
"""
