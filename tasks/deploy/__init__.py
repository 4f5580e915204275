"""What a trained model is for: naming what is in pictures, and being judged on other data."""
