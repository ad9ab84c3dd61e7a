"""Runs and numbers become a page."""
