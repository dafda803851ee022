"""The kernel lab: boots real kernels under qemu and runs programs there. pytest runs only test_lab.py."""
