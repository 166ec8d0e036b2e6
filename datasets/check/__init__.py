"""A doctor for data sets: `python -m datasets.check NAME`."""
