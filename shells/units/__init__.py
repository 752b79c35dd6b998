"""What systemd runs on a server, besides rounds: after a boot, and to see who is idle."""
