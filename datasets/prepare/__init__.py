"""Making data sets ready: `python -m datasets.prepare shapes`."""
