"""NVIDIA's driver: its version, its device files, its libraries for containers, what GPUs do.

The kernel module and the user-space libraries have to be of the very same version, and there is one
module for all containers. Nothing here imports pynvml on the way of a start.
"""
