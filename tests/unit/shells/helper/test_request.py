import pytest
from hypothesis import given
from hypothesis import strategies as st

from shells.helper.request import (
    LONGEST_REQUEST,
    Request,
    decode,
    encode,
    ends_with_its_asker,
    whose,
)
from shells.usage import Verb
from state.errors import LxcGpuError


@pytest.mark.parametrize("verb", list(Verb))
def test_requests_arrive_as_they_were_sent(verb: Verb) -> None:
    assert decode(encode(Request(verb, "ann"))) == Request(verb, "ann")


def test_the_longest_request_that_can_be_typed_arrives() -> None:
    paths = "\n".join(["\U0001f40d" * 499] * 2)
    line = encode(request := Request(Verb.RECOVER, "", {"name": "monday", "paths": paths}))
    assert len(line) <= LONGEST_REQUEST
    assert decode(line) == request


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_crashes(line: bytes) -> None:
    with pytest.raises(LxcGpuError):
        decode(line)


@pytest.mark.parametrize(
    "line", [b'{"verb":"start"}', b'{"verb":"start","user":1}', b'{"verb":"rm","user":""}', b"[]",
             b'{"verb":"start","user":"","options":{},"more":1}', b"[" * 4000,
             b'{"verb":"start","user":"","options":{"port":"80"}}',
             b'{"verb":"port","user":"","options":{"port":"80; id"}}',
             b'{"verb":"port","user":"","options":{"remove":"x"}}',
             b'{"verb":"port","user":"","options":{"port":80}}',
             b'{"verb":"port","user":"","options":[]}',
             b'{"verb":"told","user":"","options":{"ids":"../../etc"}}',
             b'{"verb":"register","user":"ann","options":{"template":"../../etc"}}',
             b'{"verb":"snapshot","user":"","options":{"name":"../../etc"}}',
             b'{"verb":"recover","user":"","options":{"name":"a","paths":"x\\u0000"}}',
             b'{"verb":"recover","user":"","options":{"name":"a","paths":"\\ud800"}}',
             b'{"verb":"recover","user":"","options":{"name":"a","paths":""}}',
             b'{"verb":"reserve","user":"","options":{"what":"2\\n8h"}}',
             b'{"verb":"reserve","user":"","options":{"what":""}}',
             b'{"verb":"release","user":"","options":{"what":"r1","all":""}}']
)  # fmt: skip
def test_only_the_exact_form_is_a_request(line: bytes) -> None:
    with pytest.raises(LxcGpuError):
        decode(line)


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "status", "shell"])
def test_users_act_on_themselves_only(verb: str) -> None:
    assert whose(Request(Verb(verb)), "ann") == "ann"
    with pytest.raises(LxcGpuError):
        whose(Request(Verb(verb), "bob"), "ann")


def test_service_accounts_have_one_verb_each() -> None:
    assert whose(Request(Verb.REGISTER, "ann"), "register") == "ann"
    assert whose(Request(Verb.RECONCILE), "iam") == ""
    assert whose(Request(Verb.TOLD), "iam") == ""
    for asker, verb in (("register", Verb.RECONCILE), ("iam", Verb.REGISTER), ("iam", Verb.START)):
        with pytest.raises(LxcGpuError):
            whose(Request(verb, "ann"), asker)


@pytest.mark.parametrize("verb", [Verb.REGISTER, Verb.RECONCILE, Verb.TOLD])
def test_users_neither_register_nor_reconcile(verb: Verb) -> None:
    with pytest.raises(LxcGpuError):
        whose(Request(verb), "ann")


def test_only_what_nobody_has_anything_of_ends_with_its_asker() -> None:
    ending = [Request(Verb.STATUS), Request(Verb.GPUS), Request(Verb.RESERVATIONS)]
    ending += [Request(Verb.SNAPSHOT, options={name: ""}) for name in ("to-stdout", "list")]
    assert all(map(ends_with_its_asker, ending))
    others = set(Verb) - {Verb.STATUS, Verb.GPUS, Verb.RESERVATIONS}
    assert not any(ends_with_its_asker(Request(verb)) for verb in others)
