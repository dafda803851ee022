"""The tests. Each folder holds those of the room of that name in hatch_bpf/; besides:

- `system/`: whole builds and installed packages, from outside. `repository/`: this repository's own pages and scripts.
- `lab/`: real kernels under qemu, for `make test-kernels`, which does the exercises of `kinds/` and `seeds/` there.
- `common/`: what tests share. `bpf/`: C programs. `golden/`: derived files that `python -m tests.regenerate` writes.
"""
