"""Turns bare hosts into a fleet, by the scripts and commands that sysadmins use.

First the web server is set up, then each GPU server. It trusts the revision that the sysadmin (root
on the laptop) sees in a clone. The sysadmin commits the servers' files, and each server runs a
first round.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from laboratory.directory.people import BASE_DN, GROUP_DN, SERVICE_DN, SERVICE_PASSWORD
from laboratory.hosts import Host, Lab
from laboratory.layout import DOMAIN, OPENLDAP, SOURCE_INSIDE
from laboratory.progress import ProgressLines

GPU_SERVERS = ("gpu17", "gpu18")
SYSADMIN = "Alice Admin"
SYSADMIN_KEY = "/root/.ssh/id_ed25519"
CLONE = "/root/state"
"""The sysadmin's clone of the state repository, on the laptop."""
LDAP_CA = "/etc/lxc-gpu/ldap-ca.pem"
LDAP_PASSWORD = "/root/ldap-password"  # noqa: S105 # the file's name
LONG = 1200
"""Seconds that a set-up script may take on an emulated machine, while others run."""


def wire(lab: Lab, progress: ProgressLines) -> None:
    """Set up lxc-gpu on the hosts. Every `up` calls it, so it can be repeated."""
    with progress.step("set up iam"):
        printed = _web_server(lab)
    options = re.findall(r"--(?:state|gate-host-key|iam-key) (?:'[^']*'|\S+)", printed)
    trust = ["--trust", _clone(lab)]
    servers = lab.gpu_servers
    if not servers:
        return
    names = [server.name for server in servers]
    with progress.step(f"set up {', '.join(names)}"), ThreadPoolExecutor() as pool:
        files = list(pool.map(lambda host: _gpu_server(host, options + trust), servers))
    with progress.step("commit the servers to the state repository"):
        _commit(lab, dict(zip(names, files, strict=True)))
    with progress.step(f"first round on {', '.join(names)}"), ThreadPoolExecutor() as pool:
        list(pool.map(_first_round, servers))


def _first_round(host: Host) -> None:
    """Run a round by its unit, since one from before the server's file was committed has failed."""
    host.run(["systemctl", "restart", "lxc-gpu-reconcile.service"], timeout=LONG)


def _web_server(lab: Lab) -> str:
    """Set up iam. Return the options that its script printed for the GPU servers."""
    laptop, iam = lab.host("laptop"), lab.host("iam")
    laptop.sh(
        f"test -e {SYSADMIN_KEY} || ssh-keygen -q -t ed25519 -N '' -C alice -f {SYSADMIN_KEY}"
    )
    iam.write(LDAP_PASSWORD, SERVICE_PASSWORD, 0o600)
    done = iam.run(
        [
            f"{SOURCE_INSIDE}/setup/web-server",
            *("--admin-name", SYSADMIN, "--admin-key", laptop.read(f"{SYSADMIN_KEY}.pub").strip()),
            *("--public-url", f"http://iam.{DOMAIN}", "--listen", "0.0.0.0:80"),
            *("--organisation", "Vision Lab"),
            *_directory(lab),
            *("--ldap-base", BASE_DN, "--ldap-ca", LDAP_CA),
            *("--ldap-bind-dn", SERVICE_DN, "--ldap-password-file", LDAP_PASSWORD),
            *("--allow-group", GROUP_DN),
        ],
        timeout=LONG,
    )
    return done.stdout


def _directory(lab: Lab) -> list[str]:
    """The set-up options that depend on the kind of directory."""
    if lab.place.directory == OPENLDAP:
        return ["--ldap-url", f"ldap://ldap.{DOMAIN}", "--allow", "(objectClass=inetOrgPerson)"]
    # One controller for each way to name them, so that tests use both ways.
    ways = zip(("ldaps", "ldap"), lab.controllers, strict=False)
    urls = [f"{way}://{host.name}.{DOMAIN}" for way, host in ways]
    allow = "(&(objectCategory=person)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))"
    repeated = [word for url in urls for word in ("--ldap-url", url)]
    return ["--active-directory", *repeated, "--allow", allow]


def _gpu_server(host: Host, options: list[str]) -> str:
    """Set one GPU server up. Return its file for the state repository."""
    script = f"{SOURCE_INSIDE}/setup/gpu-server --name {host.name} {' '.join(options)}"
    printed = host.sh(script, timeout=LONG).stdout
    return printed[printed.index("address:") :]


def _clone(lab: Lab) -> str:
    """Have the sysadmin clone the state repository. Return its revision."""
    laptop, iam = lab.host("laptop"), lab.host("iam")
    host_key = " ".join(iam.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    laptop.write("/root/.ssh/known_hosts", f"iam.{DOMAIN} {host_key}\n", 0o600)
    laptop.sh(f"""
        git config --global user.name '{SYSADMIN}'
        git config --global user.email alice@{DOMAIN}
        git config --global gpg.format ssh
        git config --global user.signingKey {SYSADMIN_KEY}
        git config --global commit.gpgSign true
        test -d {CLONE} ||
            git clone -q ssh://lxc-gpu@iam.{DOMAIN}/var/lib/lxc-gpu/state.git {CLONE}
        git -C {CLONE} pull -q --ff-only
        """)
    return laptop.sh(f"git -C {CLONE} rev-parse origin/main").stdout.strip()


def _commit(lab: Lab, files: dict[str, str]) -> None:
    """Commit and push servers/*.yaml as the sysadmin, unless that was done before."""
    laptop = lab.host("laptop")
    for name, text in files.items():
        laptop.write(f"{CLONE}/servers/{name}.yaml", text)
    laptop.sh(f"""
        cd {CLONE}
        git add servers
        git diff --cached --quiet || git commit -q -m 'Add {" and ".join(files)}'
        git push -q
        """)
