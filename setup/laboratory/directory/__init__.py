"""The lab's directory of people: slapd, its certificates, who is in it."""
