"""Starts everything on one machine: `make run`. Production does not need it; see docs/production.md."""
