"""Clients of a model that TensorFlow Serving serves."""
