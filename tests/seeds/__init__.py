"""Programs as their authors would write them (tests/bpf/seeds), and exercises that hold what they report to account."""
