"""The command `hatch-bpf`."""
