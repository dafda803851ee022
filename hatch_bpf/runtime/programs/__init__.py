"""Programs of a loaded object: attach them, run them, hold their links."""
