"""The directory of people (LDAP): who may log in, who is gone, guessing slowed down."""
