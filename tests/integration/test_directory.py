"""Logging in against a real slapd."""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from state.errors import LxcGpuError
from state.model.documents import User
from tests.integration import slapd
from tests.integration.hostile import BIND, UNBIND, answer, parts, relaying, result, serving
from tests.integration.slapd import Slapd
from tests.patience import HANGS
from webui.config import DirectoryConfig
from webui.directory.ldap import Directory
from webui.directory.login import ForeignLoginError
from webui.directory.transport.connections import (
    DirectoryDownError,
    NotAllowedError,
    WrongLoginError,
    wrong,
)

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
)
GUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
PEOPLE = f"ou=people,{slapd.BASE}"
ENTRIES = "\n".join(
    [
        slapd.person("LQChen", "Lequn Chen", "right horse", extra="employeeType: lab"),
        slapd.person("ann", "Ann Lee", "ann's own", extra="employeeType: lab"),
        slapd.person("solo", "solo", "solo-secret", extra="employeeType: lab"),
        slapd.person("guest", "Guest Visitor", "guest-secret", extra="employeeType: guest"),
        slapd.person("other.ann", "ann", "other's own", extra="employeeType: lab"),
        slapd.person("jane doe", "Jane Doe", "doe's own", extra="employeeType: lab"),
        slapd.person("müller", "Max Mueller", "max's own", extra="employeeType: lab"),
        slapd.person("bo@example.org", "Bo Berg", "bo's own", extra="employeeType: lab"),
        slapd.person("twin", "Twin One", "twin-secret", extra="employeeType: lab"),
        slapd.person("twin", "Twin Two", "twin-secret", ou="others", extra="employeeType: lab"),
        f"""
dn: cn=Adam Active,{PEOPLE}
objectClass: user
objectCategory: cn=Person
instanceType: 4
nTSecurityDescriptor: none
cn: Adam Active
sn: Active
displayName: Adam
userPassword: adam-secret
employeeType: lab
objectGUID:: {base64.b64encode(GUID.bytes_le).decode()}
""",
        slapd.group("phd", f"cn=Lequn Chen,{PEOPLE}"),
        slapd.group("students", f"cn=phd,ou=groups,{slapd.BASE}"),
        slapd.group("gpu", f"cn=students,ou=groups,{slapd.BASE}"),
        slapd.group("loop-a", f"cn=loop-b,ou=groups,{slapd.BASE}", f"cn=Ann Lee,{PEOPLE}"),
        slapd.group("loop-b", f"cn=loop-a,ou=groups,{slapd.BASE}"),
    ]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), ENTRIES) as running:
        yield running


def config(server: slapd.Slapd, **changes: object) -> DirectoryConfig:
    fields: dict[str, object] = {
        "servers": [server.plain],
        "base": slapd.BASE,
        "allow": "(employeeType=lab)",
        "ca_file": str(server.certificates.ca),
        "bind_dn": slapd.SERVICE_DN,
        "bind_password_file": str(server.service_password),
        "connect_seconds": 1,
        "answer_seconds": 2,
    }
    return DirectoryConfig.model_validate({**fields, **changes})


def hostile(url: str) -> DirectoryConfig:
    """No StartTLS and no secrets, so that it gets to say more."""
    fields = {"servers": [url], "base": slapd.BASE, "allow": "(uid=*)"}
    soon = {"connect_seconds": 1, "answer_seconds": 1}
    return DirectoryConfig.model_validate({**fields, **soon, **PLAIN})


def outcome(directory: Directory) -> Any:
    """What a login comes to, or how it fails; TimeoutError if it hangs."""

    def login() -> object:
        try:
            return directory.authenticate("lqchen", "right horse")
        except LxcGpuError as error:
            return error

    pool = ThreadPoolExecutor()
    try:
        return pool.submit(login).result(timeout=HANGS)
    finally:
        pool.shutdown(wait=False)


@contextmanager
def saying(said: Callable[[bytes], Iterable[bytes]]) -> Iterator[int]:
    """A server that says `said(request)` to each request until the block is left."""
    stop = threading.Event()

    def talk(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.settimeout(HANGS)
            while not stop.is_set() and (request := client.recv(65536)):
                for piece in said(request):
                    client.sendall(piece)
                    if stop.is_set():
                        break

    with serving(talk) as port:
        try:
            yield port
        finally:
            stop.set()


def drip(_: bytes) -> Iterator[bytes]:
    """A message that gets longer by a byte now and then."""
    yield b"\x30\x84\x00\x40\x00\x00"
    while True:
        time.sleep(0.1)
        yield b"\x00"


def handshake(_: bytes) -> Iterator[bytes]:
    """The same of TLS."""
    yield b"\x16\x03\x03\x40\x00"
    while True:
        time.sleep(0.1)
        yield b"\x00"


def flood(_: bytes) -> Iterator[bytes]:
    yield b"\x30\x84\x7f\xff\xff\xff"
    yield from repeat(b"\x00" * 4096)


def noise(_: bytes) -> Iterator[bytes]:
    yield from (os.urandom(4096) for _ in repeat(None))


def entries(request: bytes) -> Iterator[bytes]:
    """Yes to a bind, and entries without an end to a search."""
    if parts(request)[1] == BIND:
        yield result(request, 0)
    else:
        yield from repeat(answer(request, 0x64, b"\x04\x04cn=a\x30\x00") * 100)


HOSTILE = {each.__name__: each for each in (drip, handshake, flood, noise, entries)}
NONSENSE = (
    b"",
    b"\x00",
    b"\x30\x00",
    b"\x30\x03\x02\x01\x01",
    b"\x30\x05\x02\x01\x01\x61\x00",
    b"\x30\x07\x02\x01\x01\x61\x02\x0a\x00",
    b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x05",
    b"\x30\x82\x03\xe8" + b"\x30\x80" * 500,
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x30\x0c\x02\x01\x09\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
)
PLAIN = {"starttls": False, "dangerously_unencrypted": True}


def asked(
    server: slapd.Slapd, login: str, password: str = "wrong", go_on: bool = True
) -> list[int]:
    """What a login that is wrong takes: connections, and kinds of requests over all."""
    kinds: list[int] = []
    with relaying(server.plain, kinds.append) as url:
        directory = Directory(config(server, servers=[url], **PLAIN))
        with pytest.raises(WrongLoginError):
            directory.authenticate(login, password, lambda _: go_on)
    return [kind for kind in kinds if kind != UNBIND]


def test_the_entry_spells_the_login(server: Slapd) -> None:
    person = Directory(config(server)).authenticate("lqchen", "right horse")
    assert (person.login, person.full_name, person.mail) == (
        "LQChen",
        "Lequn Chen",
        "lqchen@example.org",
    )
    assert person.directory_id is not None
    assert str(uuid.UUID(person.directory_id)) == person.directory_id


def test_ldaps_works_as_well(server: Slapd) -> None:
    found = Directory(config(server, servers=[server.tls])).authenticate("ann", "ann's own")
    assert found.login == "ann"


def test_a_bind_template_needs_no_service_account(server: Slapd) -> None:
    template = {"bind_dn": "", "bind_password_file": None}
    directory = Directory(config(server, **template, bind_template=f"cn={{login}},{PEOPLE}"))
    assert directory.authenticate("solo", "solo-secret").full_name == "solo"
    for login, password in (("solo", "wrong"), ("solo", ""), ("lqchen", "right horse")):
        with pytest.raises(WrongLoginError):
            directory.authenticate(login, password)


def test_a_bind_template_that_leads_to_another_entry_lets_nobody_in(server: Slapd) -> None:
    """The DN cn=ann is of the login other.ann; the login ann is of another person."""
    template = {
        "bind_dn": "",
        "bind_password_file": None,
        "bind_template": f"cn={{login}},{PEOPLE}",
    }
    with pytest.raises(NotAllowedError) as caught:
        Directory(config(server, **template)).authenticate("ann", "other's own")
    assert caught.value.code == "login-of-other"
    assert caught.value.hint == "Your login is `other.ann`: type that one."
    assert f"found cn=Ann Lee,{PEOPLE}, bound as cn=ann,{PEOPLE}" in caught.value.details


def test_a_directory_that_does_not_say_who_is_bound_lets_nobody_in_by_a_template(
    tmp_path: Path,
) -> None:
    template = {
        "bind_dn": "",
        "bind_password_file": None,
        "bind_template": f"cn={{login}},{PEOPLE}",
    }
    silent = "restrict extended=1.3.6.1.4.1.4203.1.11.3"
    with slapd.running(tmp_path, ENTRIES, silent) as server:
        with pytest.raises(NotAllowedError) as caught:
            Directory(config(server, **template)).authenticate("solo", "solo-secret")
        assert caught.value.code == "login-unclear"
        found = Directory(config(server)).authenticate("solo", "solo-secret")
        assert found.login == "solo", "a service account finds the entry, and binds as that one"


@pytest.mark.parametrize(
    ("typed", "password", "login"),
    [
        ("Jane Doe", "doe's own", "jane doe"),
        ("müller", "max's own", "müller"),
        ("bo@example.org", "bo's own", "bo@example.org"),
    ],
)
def test_logins_with_blanks_umlauts_or_an_at(
    server: Slapd, typed: str, password: str, login: str
) -> None:
    assert Directory(config(server)).authenticate(typed, password).login == login


@pytest.mark.parametrize(
    ("typed", "kind", "hint"),
    [
        ("MYLAB\\lqchen", ForeignLoginError, "Type your login alone, such as `lqchen`."),
        ("lqchen@example.org", WrongLoginError, "perhaps `lqchen` alone."),
        ("nobody@example.org", WrongLoginError, "perhaps `nobody` alone."),
    ],
)
def test_where_there_are_no_domains_the_login_stands_alone(
    server: Slapd, typed: str, kind: type[WrongLoginError], hint: str
) -> None:
    with pytest.raises(kind) as caught:
        Directory(config(server)).authenticate(typed, "right horse")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("lqchen", "wrong"),
        ("nobody", "right horse"),
        ("lqchen", ""),
        ("", ""),
        ("*", "right horse"),
        (")(uid=*", "right horse"),
        ("lqchen)(|(uid=*", "right horse"),
        ("lqchen\x00", "right horse"),
        ("cn=Lequn Chen", "right horse"),
        ("lqchen", "x" * 5000),
        ("twin", "twin-secret"),
        ("lqchen ", "right horse"),
        ("٣lqchen", "right horse"),
        ("lqchen", "right\x00horse"),
        ("lqchen", "\x00"),
        ("lqchen", "right horse\x07"),
        ("lqchen", "\x9f"),
        ("lqchen", "\u00ad"),  # of which SASLprep (RFC 4013) leaves nothing
        ("nobody", "\x00"),
    ],
)
def test_one_message_for_all_that_is_wrong(server: Slapd, login: str, password: str) -> None:
    with pytest.raises(WrongLoginError) as caught:
        Directory(config(server)).authenticate(login, password)
    assert caught.value.message == wrong("").message


def test_an_empty_password_reaches_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        fields = {
            "servers": [f"ldap://127.0.0.1:{port}"],
            "base": slapd.BASE,
            "allow": "(uid=*)",
        }
        with pytest.raises(WrongLoginError):
            Directory(DirectoryConfig.model_validate(fields)).authenticate("lqchen", "")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_who_is_outside_allow_is_told_so_only_after_the_right_password(server: Slapd) -> None:
    directory = Directory(config(server))
    with pytest.raises(NotAllowedError):
        directory.authenticate("guest", "guest-secret")
    with pytest.raises(WrongLoginError):
        directory.authenticate("guest", "wrong")


@pytest.mark.parametrize("url", ["plain", "tls"])
def test_a_certificate_of_another_authority_is_refused(
    server: Slapd, tmp_path: Path, url: str
) -> None:
    other = slapd.make_certificates(tmp_path, "Mallory")
    directory = Directory(config(server, servers=[getattr(server, url)], ca_file=str(other.ca)))
    with pytest.raises(DirectoryDownError) as caught:
        directory.authenticate("lqchen", "right horse")
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.details
    assert "CERTIFICATE" not in str(caught.value)


def test_a_certificate_for_another_name_is_refused(server: Slapd) -> None:
    tls = server.tls.replace("127.0.0.1", "127.0.0.2")
    plain = server.plain.replace("127.0.0.1", "localhost")
    with pytest.raises(DirectoryDownError):
        Directory(config(server, servers=[tls])).authenticate("lqchen", "right horse")
    assert Directory(config(server, servers=[plain])).authenticate("lqchen", "right horse")


def test_the_next_server_is_asked_when_the_first_is_down(server: Slapd) -> None:
    dead = f"ldap://127.0.0.1:{slapd.free_port()}"
    directory = Directory(config(server, servers=[dead, server.plain]))
    assert directory.authenticate("lqchen", "right horse").login == "LQChen"
    with pytest.raises(DirectoryDownError):
        Directory(config(server, servers=[dead])).authenticate("lqchen", "right horse")


def test_a_server_that_never_answers_is_given_up(server: Slapd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stop = threading.Event()
        url = f"ldap://127.0.0.1:{silent.getsockname()[1]}"
        directory = Directory(config(server, servers=[url, server.plain]))
        begun = time.monotonic()
        assert directory.authenticate("lqchen", "right horse").login == "LQChen"
        assert time.monotonic() - begun < HANGS
        stop.set()


class TestHostile:
    """What stands where the directory should be says whatever it likes."""

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "ldaps"])
    @pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
    def test_a_conversation_has_an_end(
        self, said: Callable[[bytes], Iterable[bytes]], tls: bool
    ) -> None:
        with saying(said) as port:
            url = f"{'ldaps' if tls else 'ldap'}://127.0.0.1:{port}"
            assert isinstance(outcome(Directory(hostile(url))), DirectoryDownError)

    @pytest.mark.parametrize("said", NONSENSE)
    def test_nonsense_is_the_directory_s_fault(self, said: bytes) -> None:
        with saying(lambda _: [said]) as port:
            assert isinstance(outcome(Directory(hostile(f"ldap://127.0.0.1:{port}"))),
                              DirectoryDownError)  # fmt: skip

    def test_the_next_server_is_asked_when_one_drips(self, server: Slapd) -> None:
        with saying(drip) as port:
            urls = [f"ldap://127.0.0.1:{port}", server.plain]
            assert outcome(Directory(config(server, servers=urls))).login == "LQChen"

    @pytest.mark.parametrize("login", ["nobody", "twin", "guest"])
    def test_nobody_can_tell_from_the_wait_whether_a_login_exists(
        self, server: Slapd, login: str
    ) -> None:
        """A wrong password costs the same requests."""
        assert asked(server, login) == asked(server, "lqchen")
        assert asked(server, "lqchen").count(BIND) == 2  # the service account's, and theirs

    def test_nobody_can_tell_whether_a_person_has_to_wait(self, server: Slapd) -> None:
        """The right password isn't tried then, and looks as a wrong one."""
        assert asked(server, "lqchen", "right horse", go_on=False) == asked(server, "lqchen")


def test_a_refused_service_account_is_not_the_users_fault(server: Slapd, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("nonsense")
    directory = Directory(config(server, bind_password_file=str(wrong)))
    with pytest.raises(DirectoryDownError) as caught:
        directory.authenticate("lqchen", "right horse")
    assert "service account" in caught.value.details
    wrong.write_text("")
    with pytest.raises(DirectoryDownError):
        directory.authenticate("lqchen", "right horse")


def test_groups_in_groups_let_people_in(server: Slapd) -> None:
    directory = Directory(config(server, allow_groups=[f"CN=gpu, ou=groups,{slapd.BASE}"]))
    assert directory.authenticate("lqchen", "right horse").login == "LQChen"
    with pytest.raises(NotAllowedError):
        directory.authenticate("ann", "ann's own")  # only in groups that hold each other


def test_an_object_guid_is_read_as_active_directory_means_it(server: Slapd) -> None:
    directory = Directory(config(server, login_attribute="displayName", id_attribute="objectGUID"))
    person = directory.authenticate("adam", "adam-secret")
    assert (person.login, person.directory_id) == ("Adam", str(GUID))


def test_who_is_in_which_groups_for_past_weeks(server: Slapd) -> None:
    logins = ("lqchen", "ann", "solo", "guest", "twin", "elsewhere")
    numbers: dict[str, Any] = {"port": 22000, "subid": 10_000_000, "uid": 20000}
    users = {name: User(name=name, login=name, **numbers) for name in logins}
    below = f"ou=groups,{slapd.BASE}"
    groups = {"Ph.D.": f"cn=phd,{below}", "GPU": f"CN=gpu, {below}", "Loop": f"cn=loop-b,{below}"}
    directory = Directory(config(server))
    found = directory.groups_of(users, groups)
    assert found == {  # whom two entries or none are is left out
        "lqchen": ("GPU", "Ph.D."), "ann": ("Loop",), "solo": (), "guest": (),
    }  # fmt: skip
    with pytest.raises(LxcGpuError, match="The directory has no group cn=nobody") as caught:
        directory.groups_of(users, groups | {"Nobody": f"cn=nobody,{below}"})
    assert caught.value.code == "usage-group-missing"


def test_looking_everybody_up_knows_groups_in_groups_and_direct_members(server: Slapd) -> None:
    user: dict[str, Any] = {"port": 22000, "subid": 10_000_000, "uid": 20000}
    logins = {"LQChen": "Lequn Chen", "ann": "Ann Lee", "solo": "solo", "guest": "Guest Visitor"}
    users = {n.lower(): User(name=full, login=n, **user) for n, full in logins.items()}
    users["nobody"] = User(name="Nobody", login="nobody", **user)
    users["twin"] = User(name="Twin One", login="twin", **user)
    found = Directory(config(server)).look_up_all(users)
    assert {name for name, each in found.items() if each.gone} == {"guest", "nobody"}
    groups = [f"CN=gpu, ou=groups,{slapd.BASE}", f"cn=loop-a,ou=groups,{slapd.BASE}"]
    found = Directory(config(server, allow_groups=groups)).look_up_all(users)
    assert {name for name, each in found.items() if not each.gone} == {"lqchen", "ann", "twin"}
