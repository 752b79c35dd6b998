"""Who uses this server, and how much: processes, GPUs, disks, again and again."""
