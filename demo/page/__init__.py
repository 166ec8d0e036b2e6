"""The web page: `demo/web.py` serves it."""
