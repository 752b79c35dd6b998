"""What the files of a state repository may say: types, keys, names, and which path is what."""
