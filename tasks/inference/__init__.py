"""Inference: frozen graphs, cached features, runtimes and the base of predictors."""
