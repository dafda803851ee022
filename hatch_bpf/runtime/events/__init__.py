"""Events: ring buffers, perf buffers, and waiting for several of them."""
