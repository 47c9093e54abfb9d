"""Models from elsewhere as modules: images in [0, 1] to logits. Weights are loaded without unpickling code."""
