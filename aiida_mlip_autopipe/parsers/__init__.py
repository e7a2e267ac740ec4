"""What comes back from the worker, and what it means when it does not."""
