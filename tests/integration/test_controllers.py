"""A directory of two servers, of which one is bad: real slapds, with real sockets before them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from state.model.documents import User
from tests.integration import slapd
from tests.integration.hostile import (
    AUTH_METHOD_NOT_SUPPORTED,
    BIND,
    BUSY,
    CONFIDENTIALITY_REQUIRED,
    EXTENDED,
    INVALID_CREDENTIALS,
    OPENED,
    OPERATIONS_ERROR,
    OTHER,
    REFERRAL,
    SASL_IN_PROGRESS,
    SEARCH,
    SIZE_LIMIT,
    TIME_LIMIT,
    UNAVAILABLE,
    UNWILLING,
    cut,
    naming,
    relaying,
    saying,
    serving,
    silent,
)
from tests.integration.slapd import Slapd
from tests.integration.test_directory import PEOPLE, PLAIN, config, drip, outcome
from tests.integration.test_directory import saying as always_saying
from webui.directory.ldap import Directory
from webui.directory.transport.connections import (
    Connections,
    DirectoryDownError,
    NotAllowedError,
    Reached,
    WrongLoginError,
)
from webui.directory.transport.server_order import LAST_FOR

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
)
ENTRIES = slapd.person("LQChen", "Lequn Chen", "right horse", extra="employeeType: lab\n")
ENTRIES += slapd.person("solo", "solo", "solo-secret", extra="employeeType: lab")
SERVICE, ASKED, PERSON = (BIND, 1), (SEARCH, 1), (BIND, 2)
"""The steps of a login: the service account's bind, its first search, the person's own bind."""
TEMPLATE = {"bind_dn": "", "bind_password_file": None, "bind_template": f"cn={{login}},{PEOPLE}"}
NO_CONTROLLER = b"80090308: LdapErr: DSID-0C090400, comment: AcceptSecurityContext error, data 51f"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), ENTRIES) as running:
        yield running


@pytest.fixture
def good(server: Slapd) -> Iterator[tuple[str, list[int]]]:
    """A good one's address, and what it was asked."""
    seen: list[int] = []
    with relaying(server.plain, seen.append) as url:
        yield url, seen


def pair(server: slapd.Slapd, *urls: str, **changes: object) -> Directory:
    return Directory(config(server, servers=urls, answer_seconds=1, **PLAIN, **changes))


FAULTS = {
    "silent": silent,
    "cut": cut,
    "busy": saying(BUSY),
    "unavailable": saying(UNAVAILABLE),
    "unwilling": saying(UNWILLING),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("step", [SERVICE, ASKED, PERSON], ids=["service", "search", "person"])
def test_the_next_one_is_asked_at_whatever_step_one_fails(
    server: Slapd,
    good: tuple[str, list[int]],
    step: tuple[int, int],
    fault: Callable[[socket.socket, bytes], None],
) -> None:
    with relaying(server.plain, fault=fault, at=step) as bad:
        assert outcome(pair(server, bad, good[0])).login == "LQChen"


@pytest.mark.parametrize(
    "code", [OPERATIONS_ERROR, AUTH_METHOD_NOT_SUPPORTED, CONFIDENTIALITY_REQUIRED, OTHER]
)
def test_who_am_i_may_be_refused_in_whatever_words(server: Slapd, code: int) -> None:
    """The password is right, and the server well."""
    with relaying(server.plain, fault=saying(code), at=(EXTENDED, 1)) as url:
        with pytest.raises(NotAllowedError) as caught:
            pair(server, url, **TEMPLATE).authenticate("solo", "solo-secret")
        assert caught.value.code == "login-unclear"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (f"CN=s\\6Flo, OU=people,{slapd.BASE}", ""),
        (f"cn=solo\\2C,ou=people,{slapd.BASE}", "login-of-other"),
    ],
)
def test_who_is_bound_may_be_spelled_otherwise(server: Slapd, said: str, code: str) -> None:
    """By a service account the entry's own name was bound: that is nobody else, however spelled."""
    for way, refused in ((TEMPLATE, code), ({}, "")):
        with relaying(server.plain, fault=naming(said), at=(EXTENDED, 1)) as url:
            directory = pair(server, url, **way)
            if not refused:
                assert directory.authenticate("solo", "solo-secret").login == "solo"
                continue
            with pytest.raises(NotAllowedError) as caught:
                directory.authenticate("solo", "solo-secret")
            assert caught.value.code == refused


@pytest.mark.parametrize("code", [TIME_LIMIT, SIZE_LIMIT, REFERRAL])
def test_half_an_answer_to_a_search_is_none(
    server: Slapd, good: tuple[str, list[int]], code: int
) -> None:
    with relaying(server.plain, fault=saying(code), at=ASKED) as bad:
        assert outcome(pair(server, bad, good[0])).login == "LQChen"
        user = User(name="Lequn Chen", login="LQChen", port=22000, subid=10_000_000, uid=20000)
    with relaying(server.plain, fault=saying(code), at=ASKED) as bad:
        found = pair(server, bad, good[0]).look_up_all({"lqchen": user})
        assert not found["lqchen"].gone


@pytest.mark.parametrize("agreed", [False, True], ids=["ldaps", "starttls"])
def test_the_next_one_is_asked_when_one_is_silent_after_tls(server: Slapd, agreed: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificates.certificate, server.certificates.key)

    def shake(client: socket.socket) -> None:
        with suppress(OSError), client:
            if agreed:  # "yes" to StartTLS, RFC 4511, 4.14.2
                client.recv(65536)
                client.sendall(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
            with context.wrap_socket(client, server_side=True) as wrapped:
                while wrapped.recv(65536):
                    pass

    with serving(shake) as port:
        bad = f"{'ldap' if agreed else 'ldaps'}://127.0.0.1:{port}"
        directory = Directory(config(server, servers=[bad, server.plain], answer_seconds=1))
        assert outcome(directory).login == "LQChen"


def test_a_wrong_password_counts_once(server: Slapd, good: tuple[str, list[int]]) -> None:
    seen: list[int] = []
    with relaying(server.plain, seen.append) as first, pytest.raises(WrongLoginError):
        pair(server, first, good[0]).authenticate("lqchen", "wrong")
    assert seen.count(BIND) == 2  # the service account's, and theirs
    assert good[1] == []


def test_a_password_that_no_controller_looked_at_goes_to_the_next_one(
    server: Slapd, good: tuple[str, list[int]]
) -> None:
    fault = saying(INVALID_CREDENTIALS, NO_CONTROLLER)
    with relaying(server.plain, fault=fault, at=PERSON) as bad:
        directory = pair(server, bad, good[0])
        assert directory.authenticate("lqchen", "right horse").login == "LQChen"
    with relaying(server.plain, fault=fault, at=PERSON) as bad:
        directory = pair(server, bad, good[0])
        with pytest.raises(WrongLoginError):
            directory.authenticate("lqchen", "wrong")
    with relaying(server.plain, fault=fault, at=PERSON) as bad:
        assert isinstance(outcome(pair(server, bad)), DirectoryDownError)


def test_what_all_are_unwilling_to_look_at_is_meant_for_the_account(server: Slapd) -> None:
    """389 Directory Server says so of accounts that are closed."""
    fault = saying(UNWILLING)
    first, second = (relaying(server.plain, fault=fault, at=PERSON) for _ in range(2))
    with first as one, second as other:
        assert isinstance(outcome(pair(server, one, other)), WrongLoginError)


@pytest.mark.parametrize("code", [REFERRAL, SASL_IN_PROGRESS])
def test_a_bind_that_is_no_success_lets_nobody_in(server: Slapd, code: int) -> None:
    """ldap3 raises nothing for these."""
    with relaying(server.plain, fault=saying(code), at=PERSON) as bad:
        assert isinstance(outcome(pair(server, bad)), DirectoryDownError)


def test_a_login_opens_no_connection_just_to_see(
    server: Slapd, good: tuple[str, list[int]]
) -> None:
    """One is for the service account, one for the person."""
    assert outcome(pair(server, good[0])).login == "LQChen"
    assert good[1].count(OPENED) == 2


def test_a_bad_one_is_asked_last_for_a_while_and_comes_back(
    server: Slapd, good: tuple[str, list[int]]
) -> None:
    now = [1000.0]
    seen: list[int] = []
    with relaying(server.plain, seen.append, cut, SERVICE) as bad:
        settings = config(server, servers=[bad, good[0]], **PLAIN)
        connections = Connections(settings, clock=lambda: now[0])

        def bound(to: Reached) -> str:
            with connections.service(to):
                return str(to.server.name)

        assert connections.reached(bound) == good[0]
        assert connections.reached(bound) == good[0]
        assert seen.count(OPENED) == 1
        now[0] += LAST_FOR + 1
        assert connections.reached(bound) == bad  # whose one fault is over


def test_a_bad_one_is_asked_where_no_other_answers(server: Slapd) -> None:
    dead = f"ldap://127.0.0.1:{slapd.free_port()}"
    with relaying(server.plain, fault=cut, at=SERVICE) as bad:
        directory = pair(server, bad, dead)
        assert isinstance(outcome(directory), DirectoryDownError)
        assert outcome(directory).login == "LQChen"


def test_the_last_one_is_reached_however_long_the_others_take(
    server: Slapd, good: tuple[str, list[int]]
) -> None:
    with always_saying(drip) as one, always_saying(drip) as two, always_saying(drip) as three:
        bad = [f"ldap://127.0.0.1:{port}" for port in (one, two, three)]
        directory = pair(server, *bad, good[0])
        assert outcome(directory).login == "LQChen"
        assert outcome(directory).login == "LQChen", "it is asked first from now on"


def test_however_many_drip_it_ends(server: Slapd) -> None:
    with always_saying(drip) as one, always_saying(drip) as two, always_saying(drip) as three:
        urls = [f"ldap://127.0.0.1:{port}" for port in (one, two, three)]
        assert isinstance(outcome(pair(server, *urls)), DirectoryDownError)
