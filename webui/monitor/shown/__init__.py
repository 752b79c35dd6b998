"""What pages say of it, in words: of whom, of which servers, in which order; and as HTML."""
