"""A BPF program whose maps the benchmarks read."""
