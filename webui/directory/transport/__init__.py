"""Connections to the directory's servers: which one, encrypted, with limits in time and size."""
