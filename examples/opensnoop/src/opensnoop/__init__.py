"""Prints every file that is opened, by whom, and with which result."""
