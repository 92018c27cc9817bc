"""Embedded and generated data."""

SOURCES = ("movie", "amazon", "nyt", "tweet")
"""Where the rated snippets come from."""

POLAR = 0.5
"""A mean rating at least this far from 0 is polar, a smaller one neutral."""
