"""Containers, and what they may take of the server: memory, disk, folders."""
