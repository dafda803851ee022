"""BTF archives at URLs."""
