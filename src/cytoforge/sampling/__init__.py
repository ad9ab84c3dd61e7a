"""A run becomes a synthetic set."""
