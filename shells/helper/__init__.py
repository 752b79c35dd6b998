"""The root helper: which requests there are, who may ask them, both ends of its socket."""
