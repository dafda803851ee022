"""What goes into the wheel."""
