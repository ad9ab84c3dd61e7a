"""Formats that other tools read; every one of them keeps the mark "synthetic"."""
