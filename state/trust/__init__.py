"""Whether a revision may be trusted: signatures, the line of commits, what each role may change."""
