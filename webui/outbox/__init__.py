"""Word to people: mail and one webhook, kept on disk, sent in the background at least once."""
