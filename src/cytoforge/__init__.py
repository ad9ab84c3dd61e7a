"""Synthetic cytology: audit, train, generate, evaluate, and say honestly whether it helps."""

__version__ = "0.1.0"
