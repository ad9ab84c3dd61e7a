"""What the values of a mask mean."""

BACKGROUND, CYTOPLASM, NUCLEUS, UNKNOWN = 0, 1, 2, 3
