"""The commands of `lxc-gpu`, each loaded when it is used."""
