"""Whether robust accuracy dropped: two sets of results, row by row and image by image."""
