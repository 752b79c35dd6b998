"""Shared disks: free space, quotas, subvolumes, and removing whole trees."""
