"""What hatch-bpf costs, against what does the same without it, both measured in the same run: `make bench`."""
