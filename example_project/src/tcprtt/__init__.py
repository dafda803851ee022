"""Smoothed round-trip times of a cgroup's TCP connections, live from the kernel."""
