"""Notices to this server's users, kept here until the web page's mail was accepted."""
