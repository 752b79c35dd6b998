"""Disks that many share: how much room is left, quotas, and removing whole trees."""
