"""An app of the tests alone: how their database is emptied."""
