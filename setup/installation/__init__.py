"""What the set-up scripts of GPU servers and web servers do to a machine. Standard library only."""
