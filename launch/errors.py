class LaunchError(Exception):
    """Something the person at the terminal can put right; its text is the one sentence that they read."""
