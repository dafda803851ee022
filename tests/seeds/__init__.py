"""Programs as their authors would write them (tests/bpf/seeds, examples/), and exercises that check what they report."""
