"""Saliency maps of classifiers: where in an image the evidence for a class is, and how faithful."""
