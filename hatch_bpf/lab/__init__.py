"""The kernel lab: boots real kernels under qemu and tries a project's programs there. No build imports it."""
