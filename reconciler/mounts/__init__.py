"""Folders of the server that containers see: their sources, and how they are mounted."""
