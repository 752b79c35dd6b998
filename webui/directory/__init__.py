"""The directory of people (LDAP): logins, people who are gone, a brake on guessing passwords."""
