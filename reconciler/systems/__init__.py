"""A container's whole system: made from a template or an archive, adapted, listed."""
