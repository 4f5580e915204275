"""Reports of a run: metric intervals, plots, the HTML page, TensorBoard logs, and JSON files."""
