"""Everything that has an address, and what happens when somebody saves."""
