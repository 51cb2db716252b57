"""What can be asked before a run: what it would do, what a clause says, whether all is there."""
