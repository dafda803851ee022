"""Every kind of program, attached for real: exercises that run on this machine and in the kernel lab."""
