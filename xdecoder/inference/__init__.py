"""Images in, answers out: the predictor, its results, drawings, large images in tiles, exported networks."""
