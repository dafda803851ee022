"""What an earlier build made that may serve again."""
