"""Scripts of the lab that run inside guests, on the standard library and the wheels that the lab puts there."""
