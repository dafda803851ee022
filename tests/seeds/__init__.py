"""Programs as their authors write them (tests/bpf/seeds, examples/), and exercises that check what they report."""
