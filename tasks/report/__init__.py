"""What is measured and shown of a run: figures (`metrics`), pictures (`plots`), a page (`page`)."""
