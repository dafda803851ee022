"""What runs inside a guest: only the standard library and `hatch_bpf.runtime`, whatever else is installed."""
