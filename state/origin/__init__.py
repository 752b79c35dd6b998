"""The bare repository on the web machine: its first state, its hooks, the keys of its gate."""
