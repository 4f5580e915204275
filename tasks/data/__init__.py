"""Data sets: sources and file formats, decoding, splits, augmentation and batches."""
