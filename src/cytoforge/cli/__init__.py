"""One word, one function."""
