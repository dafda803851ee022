"""Prints every wait for a lock in PostgreSQL, with the query that waited."""
