"""The clone of a state repository: read a revision, commit an edit and push it."""
