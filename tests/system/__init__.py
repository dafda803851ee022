"""Whole builds and installed packages, used from outside as a user would."""
