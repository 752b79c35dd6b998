"""Open ssh connections to our accounts: by which key, and whether that still opens them."""
