"""Program sources -> BPF objects."""
