"""What a run and an evaluation look like: pages with curves and images."""
