"""What containers see by mounts: folders of the server, stored systems, files of lxcfs."""
