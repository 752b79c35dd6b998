"""A server's reservations in the next fortnight: in words, and placed for a drawing."""
