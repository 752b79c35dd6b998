"""What was heard, added up and kept: plots of the last days, and who used what, by week."""
