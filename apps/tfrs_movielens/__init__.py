"""TensorFlow Recommenders' tutorials on MovieLens-1M, with pruned tables."""
