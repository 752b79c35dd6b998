"""Snapshots of containers, as archives and as copies on their disk, and where they are kept."""
