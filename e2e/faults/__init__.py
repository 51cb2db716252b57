"""How a cluster is broken, one fault after another, and whether the contract notices."""
