"""A container's whole system: made from a template or an archive, exchanged, kept, gone back to."""
