"""Prints the smoothed round-trip time of each TCP connection when it is closed."""
