"""libbpf: find it, declare its functions, keep what it prints."""
