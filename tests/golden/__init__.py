"""Derived files that are kept to see what changes in them: see tests/regenerate.py."""
