"""The page's clone of the state repository. Saves that wait together are pushed together."""
