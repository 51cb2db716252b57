"""Tells people and programs what was found: the contract as a document, the summary of a run."""
