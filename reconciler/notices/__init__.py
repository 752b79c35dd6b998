"""What this server has to tell its people: kept here until the page's mail was accepted."""
