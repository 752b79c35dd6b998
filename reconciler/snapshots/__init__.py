"""Copies of containers that their users took, and the folders that hold them."""
