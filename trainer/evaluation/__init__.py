"""Measuring networks and saved predictions: over processes, interruptions and data sets."""
