"""Work in a forked child: below folders that somebody else controls, or where it may hang."""
