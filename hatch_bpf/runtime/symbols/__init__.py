"""Symbols: the functions that addresses of the kernel and of processes are in."""
