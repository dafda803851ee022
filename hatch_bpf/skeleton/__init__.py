"""Skeletons: the generated Python modules."""
