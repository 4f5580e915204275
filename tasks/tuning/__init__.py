"""Searches over the flags of a task: what is tried next, and how each trial is run."""
