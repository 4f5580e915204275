"""Export of trained models to files that other runtimes execute, checked against Keras."""
