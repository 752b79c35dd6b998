"""Disks that many share: how much room is left, quotas, subvolumes, and removing whole trees."""
