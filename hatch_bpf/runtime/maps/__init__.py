"""Maps of a loaded object, as Python containers."""
