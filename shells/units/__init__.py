"""Programs that systemd runs besides rounds: before starts, after a boot, and from time to time."""
