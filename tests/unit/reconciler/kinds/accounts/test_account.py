from reconciler.kinds.accounts.account_files import Account, AccountFiles, sysusers_lines

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
lqchen:x:20031:20031:Lequn Chen:/home/lqchen:/usr/local/lib/lxc-gpu/login-shell
chen:x:1001:1001::/home/chen:/bin/bash
broken line
"""
SHADOW = "root:*:19000:0:99999:7:::\nlqchen:!*:19000:0:99999:7::1:\nchen:!:19000:0:99999:7:::\n"
GROUP = "root:x:0:\nlxc-gpu-users:x:999:lqchen,ann\nother:x:998:chen\n"


def test_ours_are_the_members_of_the_group() -> None:
    accounts = AccountFiles(PASSWD, SHADOW, GROUP).accounts()
    assert accounts["lqchen"].ours
    assert not accounts["chen"].ours


def test_an_account_that_expired_in_1970_is_disabled() -> None:
    accounts = AccountFiles(PASSWD, SHADOW, GROUP).accounts()
    assert not accounts["lqchen"].enabled
    assert accounts["chen"].enabled


def test_no_group_of_ours_means_nobody_is_ours() -> None:
    assert not any(a.ours for a in AccountFiles(PASSWD, SHADOW, "").accounts().values())


def test_names_of_people_cannot_break_out_of_a_sysusers_line() -> None:
    text = sysusers_lines([Account(20001, 'Ann "%n\\" Example', "/shell", name="ann")])
    assert '"Ann \\"%%n\\\\\\" Example"' in text
    assert [line.split()[0] for line in text.splitlines()] == ["g", "m", "u"]
