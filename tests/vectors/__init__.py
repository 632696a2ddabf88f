"""Plays files of facts through the product's own code: `python -m tests.vectors scenarios FILE`, or `money FILE`."""
