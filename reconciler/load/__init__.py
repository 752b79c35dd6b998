"""The load of this server, read every few seconds: processes, GPUs, disks, and their users."""
