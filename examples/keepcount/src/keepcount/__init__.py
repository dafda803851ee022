"""Counts a cgroup's traffic without a gap, also while it restarts."""
