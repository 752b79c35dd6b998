"""Mounts for containers: folders of the server, stored systems, old homes, files of lxcfs."""
