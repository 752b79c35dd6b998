"""Changes: functions from one State to the next, what differs in words, and back to files."""
