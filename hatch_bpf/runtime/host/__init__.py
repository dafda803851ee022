"""This machine: its kernel, its architecture, its mounts, and the embedded BTF that fits it."""
