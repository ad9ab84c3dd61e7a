"""A folder of labelled cells becomes an audited, split, cached data set that gives batches."""
