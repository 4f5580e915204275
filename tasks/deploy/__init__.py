"""Using trained models: prediction on images, and evaluation on other data."""
