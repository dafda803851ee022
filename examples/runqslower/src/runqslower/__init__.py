"""Prints every thread that waits long for a CPU."""
