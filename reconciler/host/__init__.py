"""This server, and what lxc-gpu keeps on it: paths, configuration, locks, journal, the view."""
