"""The history of use: plots of the last days, and by week who used what."""
