"""Where examples come from: sources, readers, splits and batches."""
