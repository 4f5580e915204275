"""How anything is taught: one trainer, one run folder, one way to resume. Knows no task by name."""
