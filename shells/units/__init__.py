"""What systemd runs besides rounds: around starts, after a boot, and from time to time."""
