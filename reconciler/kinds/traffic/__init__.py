"""What containers may send and receive: bridge, ports, identities, mapped ports."""
