"""A connector kind of a third party."""
