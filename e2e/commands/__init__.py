"""Commands that stand for nothing else: a run, and what a run leaves or needs."""
