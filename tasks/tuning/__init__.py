"""Hyperparameter and architecture search: search spaces, engines, and how trials are run."""
