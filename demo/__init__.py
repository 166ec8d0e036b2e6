"""Scripts that show what a network can do."""
