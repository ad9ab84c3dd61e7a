"""From noise to images along a path: the paths and their solvers."""
