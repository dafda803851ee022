"""What the CPUs do, as counted stacks for flame graphs."""
