"""Plays files of facts about billing through the product's own verbs: `python -m tests.vectors scenarios FILE`."""
