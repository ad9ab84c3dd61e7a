"""Masks of cells without annotation, baselines for them, and how well two masks agree."""
