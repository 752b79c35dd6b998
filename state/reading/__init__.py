"""From the texts of files to a State, or to every problem that they have, with file and line."""
