"""Prediction: runtimes, feature caching, and the threads that feed them."""
