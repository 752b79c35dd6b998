"""One container: its configuration, device files, our files in its home, and work on it."""
