"""The servers: nudged over ssh; what each one reported last."""
