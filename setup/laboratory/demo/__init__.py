"""The story that setup/demo plays, told and checked chapter by chapter."""
