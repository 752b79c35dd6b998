"""Folders of the server that containers see."""
