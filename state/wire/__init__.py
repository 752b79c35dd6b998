"""What machines say to each other: typed, one JSON object a line, checked when it is read."""
