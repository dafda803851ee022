"""What the lab does in guests: each module prepares files, names commands, and judges what they print."""
