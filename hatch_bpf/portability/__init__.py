"""Verdicts: will a program load on a kernel, and why not."""
