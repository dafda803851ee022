"""What BPF there is on this system, and what its kernel can do."""
