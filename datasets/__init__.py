"""What is on disk, as samples: specifications, readers, transforms, loaders, and the evaluators that score results."""
