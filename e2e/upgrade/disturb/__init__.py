"""What may be done to a cluster of ours while it is watched."""
