"""Training of any task: one trainer, one run folder, one way to resume. Imports no task."""
