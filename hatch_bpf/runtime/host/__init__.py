"""This machine: its kernel, its architecture, its mounts, and the embedded BTF that fits it."""

KERNEL_BTF = "/sys/kernel/btf/vmlinux"
"""The running kernel's own BTF."""
