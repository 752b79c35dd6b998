"""Work in a forked child: below others' folders, inside a container, or where it may hang."""
