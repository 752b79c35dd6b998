"""Loads of the servers: received, checked, the newest of each kept."""
