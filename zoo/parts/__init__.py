"""Functions that build parts shared by several families of models."""
