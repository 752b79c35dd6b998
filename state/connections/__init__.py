"""Open ssh connections to accounts of ours: by which key, and whether that still opens them."""
