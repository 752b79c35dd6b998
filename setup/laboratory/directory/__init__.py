"""The lab's directory of people: slapd or Active Directory, certificates, who is in it."""
