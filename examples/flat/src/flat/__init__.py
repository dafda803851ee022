"""Prints how long TCP handshakes and UDP questions take to be answered."""
