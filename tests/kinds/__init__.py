"""A program of every kind, and exercises that attach each; they run on this machine and in the kernel lab."""
