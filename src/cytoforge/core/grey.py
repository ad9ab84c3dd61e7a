"""How light a colour is."""

import numpy as np

GREY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey level, as in ITU-R BT.601."""
