"""libbpf for every Linux, built from source."""
