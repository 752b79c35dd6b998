"""Reading files: what is refused, with the file, the line and words for people."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.reading.load import NewerStateError, dump, load
from state.reading.problems import StateInvalidError
from state.reading.syntax import BadYamlError, parse
from tests.patience import HANGS, cpu_seconds
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, fleet_yaml, server_yaml, user_yaml


def problems(given: dict[str, bytes]) -> list[str]:
    with pytest.raises(StateInvalidError) as caught:
        load(given)
    return [str(problem) for problem in caught.value.problems]


def test_a_sound_fleet_is_read() -> None:
    state = load(files())
    assert list(state.users) == ["ann", "lqchen"]
    assert list(state.former) == ["bob"]
    assert state.users["lqchen"].login == "LQChen"
    assert [key.comment for key in state.users["lqchen"].keys] == ["laptop", "desk"]
    assert state.registrations["gpu17"]["ann"].host_key == ed25519("ann@gpu17")
    assert str(state.servers["gpu17"].address) == "172.16.2.17"


def test_a_dump_says_what_was_read_without_the_defaults() -> None:
    given = files()
    state = load(given)
    assert dump(state.users["ann"]) == parse(given["users/ann.yaml"])
    assert dump(state.fleet) == parse(given["fleet.yaml"])
    assert list(dump(state.users["ann"])) == list(parse(given["users/ann.yaml"]))


def test_what_is_not_ours_is_ignored() -> None:
    given = files()
    for path in (".gitlab-ci.yml", "docs/x.yaml", "users/.gitkeep", "x", "hooks/pre-receive"):
        given[path] = b"\xff: ["
    load(given)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("users/lqchen.yml", "users/lqchen.yml: isn't a file of the state: its name must end in"),
        ("users/x.yaml~", "users/x.yaml~: isn't a file of the state"),
        ("users/Ann.yaml", "users/Ann.yaml: the name `Ann` must be"),
        ("users/.yaml", "users/.yaml: the name `` must be"),
        ("users/" + "a" * 32 + ".yaml", "at most 30"),
        ("users/ann\n.yaml", "the name `ann"),
        ("former/1x.yaml", "the name `1x`"),
        ("users/a/b.yaml", "users/a/b.yaml: is in the wrong folder; expected users/NAME.yaml"),
        ("servers/a.b.yaml", "the server's name `a.b` must be a DNS name"),
        ("registrations/ann.yaml", "expected registrations/SERVER/USER.yaml"),
        ("registrations/gpu17/x/ann.yaml", "expected registrations/SERVER/USER.yaml"),
        ("registrations/GPU/ann.yaml", "the server's name `GPU`"),
        ("servers", "servers: must be a folder"),
    ],
)
def test_oddly_named_files_in_our_folders_are_refused(path: str, said: str) -> None:
    given = {**files(), path: b"x: 1"}
    assert said in "\n".join(problems(given))


KEY = str(ed25519("k"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "users/eve.yaml: the file is empty"),
        ("# only a note\n", "users/eve.yaml: the file is empty"),
        ("- a\n", "users/eve.yaml:1: the file must consist of `field: value` lines"),
        ("uid: 1\nuid: 2\n", "users/eve.yaml:2: `uid` is there twice"),
        ("a: &x 1\nb: *x\n", "users/eve.yaml:1: anchors"),
        ("a: !!python/object:os.system 1\n", "users/eve.yaml:1: tags"),
        ("a: 1\n---\nb: 2\n", "users/eve.yaml:2: a file holds one document only"),
        ("%YAML 1.1\n---\na: 1\n", "users/eve.yaml:1: directives"),
        ("a: [1\n", "this isn't valid YAML"),
        ("a: 1\n b: 2\n", "users/eve.yaml:2: this isn't valid YAML"),
        ("? [a]\n: 1\n", "users/eve.yaml:1: a field's name must be a plain word"),
        ("a: \x07\n", "users/eve.yaml:1: a control character (U+0007)"),
        ("a: x # \u202e\n", "users/eve.yaml:1: a control character (U+202E)"),
        ("a: " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("a: " + "x" * 70_000, "users/eve.yaml: the file is larger than 64 KiB"),
        ("a: 1\nport: 22_031\n", "users/eve.yaml:2: `22_031` may be read as different"),
        ("a: 1\nport: 22_031.\n", "users/eve.yaml:2: `22_031.` may be read as different"),
        ("port: 0o17\n", "`0o17` may be"),
        ("port: 022031\n", "`022031` may be"),
        ("port: 0x10\n", "`0x10` may be"),
        ("login: 123e4567\n", "`123e4567` may be"),
        ("login: 2020-01-01\n", "`2020-01-01` may be"),
        ("login: .inf\n", "`.inf` may be"),
        ("port: 1" + "0" * 30 + "\n", "may be read"),
    ],
)
def test_yaml_beyond_the_plain_is_refused(text: str, said: str) -> None:
    assert said in "\n".join(problems({**files(), "users/eve.yaml": text.encode()}))


def test_text_that_is_no_utf8_is_refused_with_its_line() -> None:
    found = problems({**files(), "users/eve.yaml": b"name: x\nlogin: \xff\n"})
    assert found == ["users/eve.yaml:2: the file is not text in UTF-8"]


def test_a_billion_laughs_end_at_the_first() -> None:
    laughs = "a: &a [lol]\n" + "".join(f"b{n}: &b{n} [{'*a,' * 9}]\n" for n in range(9))
    began = time.monotonic()
    assert problems({**files(), "users/eve.yaml": laughs.encode()})
    assert time.monotonic() - began < HANGS


def test_yaml_words_mean_what_yaml_1_2_says() -> None:
    text = b"a: yes\nb: true\nc: 12:30\nd: '22'\ne: 1.5\nf: -3\ng: ~\nh: 10.77.0.0/16\n"
    assert parse(text) == {
        "a": "yes",
        "b": True,
        "c": "12:30",
        "d": "22",
        "e": 1.5,
        "f": -3,
        "g": None,
        "h": "10.77.0.0/16",
    }


GOOD = user_yaml(9, "Eve", "eve")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port:", "portt:", "users/eve.yaml:5: unknown field `portt` (did you mean `port`?)"),
        ("port:", "portt:", "users/eve.yaml:1: `port` is missing"),
        ("port: 22009", "port: a", "users/eve.yaml:5: port: must be a whole number"),
        ("port: 22009", "port: '22009'", "users/eve.yaml:5: port: must be a whole number"),
        ("port: 22009", "port: 22009.5", "users/eve.yaml:5: port: must be a whole number"),
        ("port: 22009", "port: true", "users/eve.yaml:5: port: must be a whole number"),
        ("port: 22009", "port:", "users/eve.yaml:5: port: must be a whole number"),
        ("port: 22009", "port: 80", "users/eve.yaml:5: port: must be at least 1024"),
        ("port: 22009", "port: 70000", "users/eve.yaml:5: port: must be at most 65535"),
        ("login: eve", "login: 1234", "users/eve.yaml:2: login: must be text; put it in quotes"),
        ("login: eve", "login: ''", "users/eve.yaml:2: login: must not be empty"),
        ("login: eve", 'login: "a\\nb"', "users/eve.yaml:2: login: may not begin or end"),
        ("name: Eve", "name: 'a:b'", "users/eve.yaml:1: name: may not hold colons"),
        ("6d1f0000-0009", "a b", "users/eve.yaml:3: directory_id: must look like"),
        ("uid: 20009", "uid: 20009\nkeys: abc", "users/eve.yaml:5: keys: must be a list"),
        ("uid: 20009", "uid: 20009\nkeys:", "an empty one is written []"),
        (
            "uid: 20009",
            f"uid: 20009\nkeys:\n  - {KEY}\n  # note\n  - ssh-dss AAAA x",
            "users/eve.yaml:8: keys, entry 2: DSA keys (ssh-dss) are too weak",
        ),
    ],
)
def test_wrong_fields_are_named_with_their_line(old: str, new: str, said: str) -> None:
    found = problems({**files(), "users/eve.yaml": GOOD.replace(old, new).encode()})
    assert said in "\n".join(found)
    assert "pydantic" not in "\n".join(found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("uids: {first: 5000, lst: 6000}", "unknown field `uids.lst` (did you mean `last`?)"),
        ("uids: {first: 5000}", "fleet.yaml:7: `uids.last` is missing"),
        ("uids:\n  first: 6000\n  last: 5000", "fleet.yaml:7: uids: first (6000) is above last"),
        ("uids: 7", "fleet.yaml:7: uids: must have fields of its own, not one value"),
        ("network: 10.77.0.1/16", "fleet.yaml:7: network: must be an IPv4 network"),
        ("network: 177", "fleet.yaml:7: network: must be an IPv4 address"),
        ("nameservers: [1]", "fleet.yaml:7: nameservers, entry 1: must be an IPv4 address"),
        ("subids: {size: 4096}", "fleet.yaml:7: subids.size: must be at least 65536"),
        ("  - {name: x, role: boss, key: y}", "signers, entry 2 role: must be 'admin' or 'iam'"),
        ("wibble: 1", "unknown field `wibble` (known are: format, uids"),
    ],
)
def test_wrong_fields_of_the_fleet(line: str, said: str) -> None:
    assert said in "\n".join(problems(files(fleet=fleet_yaml() + line + "\n")))


def test_every_problem_of_a_tree_is_collected_in_order() -> None:
    found = problems(
        files(
            fleet=fleet_yaml() + "x: 1\n",
            servers__gpu17="address: 1\n",
            users__ann="name: [\n",
            users__lqchen=user_yaml(1, "x", "y").replace("uid", "uuid"),
        )
    )
    paths = [problem.partition(":")[0] for problem in found]
    assert paths == sorted(paths)
    assert {*paths} == {"fleet.yaml", "servers/gpu17.yaml", "users/ann.yaml", "users/lqchen.yaml"}
    assert len(paths) == 7


def test_what_names_a_broken_file_is_not_wrong_itself() -> None:
    found = problems(files(users__ann="name: [\n", servers__gpu17="x: 1\n"))
    assert not [problem for problem in found if problem.startswith("registrations")]


def test_rules_between_files_carry_the_line_too() -> None:
    twin = user_yaml(1, "Twin", "twin").replace("-0001", "-0011")
    found = problems(files(users__twin=twin))
    assert "users/twin.yaml:5: port 22001 is also that of users/lqchen.yaml" in found
    assert len(found) == 3


def test_a_missing_fleet_file_is_said() -> None:
    assert problems(files(fleet=None)) == [
        "fleet.yaml: is missing; every state repository has this file"
    ]
    assert problems({}) == ["fleet.yaml: is missing; every state repository has this file"]


def test_a_newer_format_says_so_and_nothing_else() -> None:
    with pytest.raises(NewerStateError) as caught:
        load(files(fleet="format: 2\nbrand_new: yes\n", users__ann="nonsense: 1\n"))
    assert caught.value.code == "state-newer"
    assert "needs a newer lxc-gpu" in caught.value.message
    assert "Upgrade" in caught.value.hint
    assert "format: must be 1" in "\n".join(problems(files(fleet="format: one\n")))


yamlish = st.text(st.sampled_from("ab1: -#'\"\n[]{}&*!|>%@`,?~\t0_x."), max_size=60)


@settings(max_examples=300)
@given(st.one_of(yamlish.map(str.encode), st.binary(max_size=60)))
def test_no_file_ever_ends_in_a_traceback(content: bytes) -> None:
    with suppress(BadYamlError):
        assert isinstance(parse(content), dict)
    with pytest.raises(StateInvalidError):
        load({**files(), "users/eve.yaml": content, "fleet.yaml": content})


def with_users(count: int) -> dict[str, bytes]:
    given = files(former__bob=None, registrations__gpu17__bob=None)
    for place in range(2, count):
        key = str(ed25519(place))
        given[f"users/u{place}.yaml"] = user_yaml(place, f"U {place}", f"u{place}", key).encode()
    return given


def test_ten_times_as_many_users_take_no_hundred_times_as_long() -> None:
    some, many = with_users(100), with_users(1000)
    assert len(load(many).users) == 1000
    assert cpu_seconds(lambda: load(many)) < 30 * cpu_seconds(lambda: load(some))


@pytest.mark.parametrize("text", ["{}.", "{0}_{0}g", "-{}x"])
def test_a_long_number_is_read_at_once(text: str) -> None:
    some, many = (f"a: {text.format('1' * length)}\n".encode() for length in (500, 20_000))

    def read(content: bytes) -> None:
        with suppress(BadYamlError):
            parse(content)

    assert cpu_seconds(lambda: read(many)) < 300 * cpu_seconds(lambda: read(some)), "no square"


def test_server_yaml_defaults() -> None:
    server = load(files()).servers["gpu17"]
    assert (server.ssh_port, server.template) == (22, "debian-12")
    assert "ssh_port" not in server_yaml("x", "1.2.3.4")
