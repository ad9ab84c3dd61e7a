"""Two sets of features become numbers."""
