"""Who is in the lab's directory. Tests and the demo use these, not strings of their own."""

from __future__ import annotations

from dataclasses import dataclass

from laboratory.layout import DOMAIN

BASE_DN = "dc=mylab,dc=com"
PEOPLE_DN = f"ou=people,{BASE_DN}"
GROUPS_DN = f"ou=groups,{BASE_DN}"
SERVICES_DN = f"ou=services,{BASE_DN}"
GROUP_DN = f"cn=gpu-users,{GROUPS_DN}"
"""Who may use the GPU servers; the nested group is a member of it."""
NESTED_GROUP_DN = f"cn=vision-lab,{GROUPS_DN}"
SERVICE_DN = f"cn=iam,{SERVICES_DN}"
SERVICE_PASSWORD = "read only, please"  # noqa: S105 # of the lab only
ADMIN_DN = f"cn=admin,{BASE_DN}"
ADMIN_PASSWORD = "directory admin"  # noqa: S105 # of the lab only


@dataclass(frozen=True)
class LabPerson:
    """Somebody in the directory."""

    login: str
    name: str
    password: str
    member: bool = True
    """Whether the group lists this person directly."""

    @property
    def dn(self) -> str:
        """The entry's distinguished name."""
        return f"uid={self.login},{PEOPLE_DN}"

    @property
    def mail(self) -> str:
        """A mail address."""
        return f"{self.login.lower()}@{DOMAIN}"


LQCHEN = LabPerson("LQChen", "Lequn Chen", "correct horse")
"""The hero of the story; the directory spells the login with capitals."""
ANN = LabPerson("ann", "Ann Example", "battery staple")
BOB = LabPerson("bob", "Bob Example", "tr0ub4dor&3")
CAROL = LabPerson("carol", "Carol Example", "pässwörd mit ümläuts")
NO_POSIX_NAME = LabPerson("Lequn.Chen2", "Lequn Chen", "purple monkey")
"""A login that can't be the name of an account."""
ALL_DIGITS = LabPerson("12345", "Digit Example", "dishwasher one")
"""Another login that can't be the name of an account."""
OUTSIDER = LabPerson("outsider", "Out Sider", "let me in", member=False)
"""Has a password and is in no group."""
DORA = LabPerson("dora", "Dora Example", "swiper no swiping", member=False)
"""In the nested group only."""
STUDENTS = tuple(
    LabPerson(f"student{number:02}", f"Student Example {number}", f"secret of student{number:02}")
    for number in range(1, 61)
)
PEOPLE = (LQCHEN, ANN, BOB, CAROL, NO_POSIX_NAME, ALL_DIGITS, OUTSIDER, DORA, *STUDENTS)
