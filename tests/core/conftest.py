"""Scripts that tests start as processes of their own hold no tests."""

collect_ignore = ["dask_workers.py", "ray_cluster.py", "ray_study.py"]
