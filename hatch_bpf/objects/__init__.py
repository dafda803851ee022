"""BPF objects, as clang makes them."""
