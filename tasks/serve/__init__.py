"""The HTTP server of models: dynamic batching, limits, metrics, and a page to try them."""
