"""Spare systems: unpacked in advance from each template in use, for the next users."""
