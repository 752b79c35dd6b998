"""Who may have made a revision: signatures, the line of commits, and what each role may change."""
