"""What a kernel's verifier reaches of a program."""
