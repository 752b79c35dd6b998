"""What a save of keys does and what it refuses; the servers are dead."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.integration.forms import ANN, THIRD, commits, get, save, stamp
from tests.integration.sshd import ssh_key
from tests.integration.web import KEY, OTHER, Web
from tests.patience import eventually
from tests.present import present


def test_a_first_visit_allocates_nothing_and_a_save_everything(web: Web) -> None:
    assert "Nothing is saved here yet" in get(web, "/user/LQChen")
    assert commits(web) == 1
    answer = save(web)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/save/")
    assert get(web, "/users") == "lqchen\n"
    assert get(web, "/user/lqchen/port") == "22000\n"
    assert get(web, "/user/lqchen/subuid") == "10000000\n"
    assert get(web, "/user/lqchen/name") == "Lequn Chen\n"
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{KEY} lqchen@laptop\n"
    assert web.git("log", "-1", "--format=%an <%ae>").strip() == "Lequn Chen <lqchen@example.org>"
    allowed = web.folder / "allowed"
    allowed.write_text("* " + (web.folder / "signing.pub").read_text())
    web.git("-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", "main")


def test_keys_are_replaced_by_what_is_saved(web: Web) -> None:
    save(web)
    both = f"{KEY} lqchen@laptop\n{OTHER} desk\n"
    assert save(web, "lqchen", keys=both).status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == both
    assert save(web, "lqchen", keys=f"{OTHER} desk").status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{OTHER} desk\n"
    assert save(web, "lqchen", keys="").status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == ""


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"password": "wrong"}, 403, "The login or the password is wrong."),
        ({"password": ""}, 403, "The login or the password is wrong."),
        ({"login": "nobody"}, 403, "The login or the password is wrong."),
        ({"login": "*"}, 403, "The login or the password is wrong."),
        ({"login": ")(uid=*"}, 403, "The login or the password is wrong."),
        ({"login": "guest", "password": "guest-secret"}, 403, "among those who may use"),
        ({"keys": "nonsense"}, 422, "line 1"),
        ({"keys": f"{KEY}\n\nssh-rsa AAAA"}, 422, "line 3"),
        ({"keys": ""}, 422, "A first visit needs an SSH public key"),
        ({"keys": "-----BEGIN OPENSSH PRIVATE KEY-----"}, 422, "private key"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(
    web: Web, fields: dict[str, str], status: int, said: str
) -> None:
    answer = save(web, **fields)
    page = answer.get_data(as_text=True)
    assert answer.status_code == status
    assert said in page
    assert "right horse" not in page
    assert "guest-secret" not in page
    assert fields.get("keys", KEY) in page
    assert commits(web) == 1


def test_a_known_person_by_another_spelling_is_the_same_person(web: Web) -> None:
    save(web)
    assert save(web, "lqchen", login="LQCHEN", keys=f"{KEY}\n{OTHER}").status_code == 303
    assert get(web, "/users") == "lqchen\n"
    answer = web.app.test_client().get("/user/LQChen")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/user/lqchen")


def test_nobody_saves_on_somebody_elses_page(web: Web) -> None:
    save(web)
    answer = save(web, "lqchen", login="ann", password="ann's own", keys=THIRD)
    assert answer.status_code == 422
    assert "This is the page of lqchen" in answer.get_data(as_text=True)
    answer = save(web, "someone-new", keys=THIRD)
    assert "Your page is /user/lqchen" in answer.get_data(as_text=True)
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{KEY} lqchen@laptop\n"


def test_two_windows_lose_no_key(web: Web) -> None:
    save(web)
    shown = stamp(get(web, "/user/lqchen"))
    both = f"{KEY} lqchen@laptop\n{OTHER} desk"
    assert save(web, "lqchen", keys=both, shown=shown).status_code == 303
    late = save(web, "lqchen", keys=f"{KEY} lqchen@laptop\n{THIRD} phone", shown=shown)
    assert late.status_code == 422
    assert "changed meanwhile" in late.get_data(as_text=True)
    again = save(web, "lqchen", keys=f"{both}\n{THIRD}", shown=stamp(late.get_data(as_text=True)))
    assert again.status_code == 303


def test_the_live_result_names_every_server(web: Web) -> None:
    place = save(web).headers["Location"]
    early = get(web, place)
    refreshed = '<noscript><meta http-equiv="refresh"' in early
    assert refreshed == ("under way" in early)
    eventually(lambda: "http-equiv" not in get(web, place))
    page = get(web, place)
    assert page.count("refuses connections") == 2
    assert "0 of 2 servers converged; 2 will follow" in page
    stream = web.app.test_client().get(f"{place}/events").get_data(as_text=True)
    first = next(line for line in stream.splitlines() if line.startswith("data: "))
    assert "gpu18" in json.loads(first.removeprefix("data: "))
    assert stream.endswith("event: done\ndata: {}\n\n")
    home = get(web, "/")
    assert home.count("unreachable") >= 2


def test_live_pages_give_their_places_back(web: Web) -> None:
    place = save(web).headers["Location"]
    client = web.app.test_client()
    for _ in range(40):
        with client.get(f"{place}/events") as answer:
            assert answer.status_code == 200
    held = [client.get(f"{place}/events") for _ in range(30)]
    assert {answer.status_code for answer in held} == {200, 503}
    for answer in held:
        answer.close()
    assert client.get(f"{place}/events").status_code == 200


def test_megabytes_are_refused_kindly(web: Web) -> None:
    answer = save(web, keys="x" * 2_000_000)
    assert answer.status_code == 413
    assert "Far too much text" in answer.get_data(as_text=True)


def test_passwords_reach_no_log(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        save(web)
        save(web, password="a wrong but telling one")
        save(web, "ann", login="ann", password="ann's own", keys="nonsense")
    assert "event=saved user=lqchen source=127.0.0.1" in caplog.text
    assert "event=refused" in caplog.text
    for secret in ("right horse", "a wrong but telling one", "ann's own"):
        assert secret not in caplog.text


def signed(key: Path, answer: TestResponse, *, instead: str = "") -> str:
    """What the command on the page prints, typed where this private key is."""
    found = re.search(r"<code>(echo &#39;lxc-gpu key of .*)</code>", answer.get_data(as_text=True))
    assert found
    line = html.unescape(found[1]).replace("~/.ssh/id_ed25519", str(key))
    line = re.sub("'.*'", f"'{instead}'", line) if instead else line
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


class TestAKeyThatSomebodyElseSaved:
    """A public key is no secret, so anybody may have saved it first."""

    @pytest.fixture
    def key(self, web: Web, tmp_path: Path) -> Path:
        """LQChen's key, which Ann saved as hers, besides her own."""
        public = ssh_key(tmp_path / "lqchens")
        assert save(web, "ann", keys=f"{public}\n{OTHER}", **ANN).status_code == 303
        return tmp_path / "lqchens"

    def test_its_owner_shows_it_by_a_signature_and_has_it(self, web: Web, key: Path) -> None:
        keys = key.with_suffix(".pub").read_text()
        refused = save(web, keys=keys)
        page = refused.get_data(as_text=True)
        assert refused.status_code == 422
        assert "is somebody else&#39;s already" in page
        assert "ann" not in page.lower().replace("cannot", ""), "whose it is, nobody is told"
        assert save(web, keys=keys, proof=signed(key, refused)).status_code == 303
        assert keys.split()[1] in get(web, "/user/lqchen/.ssh/authorized_keys")
        assert get(web, "/user/ann/.ssh/authorized_keys") == f"{OTHER}\n"
        assert "Shown to be theirs by a signature: SHA256:" in web.git("log", "-1", "--format=%b")

    def test_no_other_signature_moves_it(self, web: Web, key: Path, tmp_path: Path) -> None:
        keys = key.with_suffix(".pub").read_text()
        refused = save(web, keys=keys)
        ssh_key(tmp_path / "own")
        another = save(web, keys=keys, proof=signed(tmp_path / "own", refused))
        assert "somebody else&#39;s already" in another.get_data(as_text=True)
        for proof in (
            "hello",
            signed(key, refused, instead="lxc-gpu key of LQChen 0123"),
            signed(key, refused).replace("SSH SIGNATURE", "PGP SIGNATURE"),
        ):
            said = save(web, keys=keys, proof=proof).get_data(as_text=True)
            assert "The signature " in said
            assert "lxc-gpu key of " in said, "and what to sign stands there again"
        anns = {**ANN, "proof": signed(key, refused)}
        said = save(web, "ann", keys=f"{OTHER}", **anns).get_data(as_text=True)
        assert "is of another text" in said, "it was made for another login"
        assert "lqchen" not in get(web, "/users")

    def test_a_servers_key_is_not_to_be_had(self, web: Web, tmp_path: Path) -> None:
        public = (web.folder / "gpu17-host.pub").read_text()
        refused = save(web, keys=public).get_data(as_text=True)
        assert "is somebody else&#39;s already" in refused
        assert "ssh-keygen -Y sign" not in refused


def test_remove_takes_one_key_out_of_the_text(web: Web) -> None:
    save(web, keys=f"{KEY} laptop\n{OTHER} desk\n")
    page = get(web, "/user/lqchen")
    links = [html.unescape(each) for each in re.findall(r'href="([^"]*remove=[^"]*)"', page)]
    assert len(links) == 2
    asked = get(web, links[0].partition("#")[0])
    assert "Remove laptop?" in asked
    text = html.unescape(present(re.search(r"<textarea[^>]*>([^<]*)<", asked))[1])
    assert text == f"{OTHER} desk\n"
    assert get(web, "/user/lqchen/.ssh/authorized_keys").count("\n") == 2, "looking saves nothing"
    assert save(web, "lqchen", keys=text, shown=stamp(asked)).status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{OTHER} desk\n"
    assert "Remove <" not in get(web, "/user/lqchen?remove=%3Cscript%3E")
