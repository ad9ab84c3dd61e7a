"""One verb, one file: a folder goes in, a folder comes out."""
