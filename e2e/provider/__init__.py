"""Gets a cluster: a kind cluster made from nothing, or one that exists."""
