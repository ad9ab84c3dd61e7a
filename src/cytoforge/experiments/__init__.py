"""The sources' systems with the sources' numbers and ours, one file for each."""
