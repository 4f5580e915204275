"""Finished runs: listing, comparison, and publication on the Hugging Face Hub."""
