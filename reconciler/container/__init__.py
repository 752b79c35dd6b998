"""What one container consists of: its configuration, our files in its home, one work at a time."""
