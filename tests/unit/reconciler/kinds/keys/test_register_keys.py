from reconciler.kinds.keys.register_keys import parse, user_lines

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVh laptop"


def test_lines_come_back_with_their_owner() -> None:
    lines = user_lines("lqchen", [KEY])
    assert lines[0].startswith('restrict,pty,command="/usr/local/lib/lxc-gpu/register lqchen" ssh-')
    assert parse("# header\n" + "\n".join(lines) + "\n") == {"lqchen": lines}


def test_a_foreign_line_is_an_owner_of_its_own_and_so_taken_away() -> None:
    assert parse(f"{KEY}\n") == {KEY: (KEY,)}
