"""What the commands do, in Python: `tasks.finetune` and `tasks.train` return a `tasks.Run`."""
