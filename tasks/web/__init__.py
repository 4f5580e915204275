"""The page to try a model, whose predictions a server or the visitor's browser computes."""
