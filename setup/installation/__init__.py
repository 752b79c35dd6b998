"""The set-up of GPU servers and of the web machine. Standard library only."""
