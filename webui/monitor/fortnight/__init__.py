"""Who has reserved which GPU of a server in its next fortnight: placed, in words, drawn."""
