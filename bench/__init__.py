"""Side-by-side measurements: `python -m bench`. Timings live here, never in tests."""
