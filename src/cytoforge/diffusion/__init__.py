"""From noise to images along a path: the paths, their solvers and pretrained models that know one."""
