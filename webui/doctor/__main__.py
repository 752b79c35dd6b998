"""Prints the findings as one line of JSON: `python -m webui.doctor [--login LOGIN]`.

With `--mail ADDRESS` it sends a test letter there.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from state.wire.findings import Area, Finding, examine, to_json
from webui import config as configuration
from webui.doctor import directory_servers, login, mail, page, repository, servers
from webui.doctor.iam import Iam

CHECKS = (
    page.answers,
    page.encrypted,
    repository.keeps,
    repository.whole,
    repository.hooks,
    repository.gate,
    repository.penalties,
    repository.keys,
    directory_servers.directory_servers,
    mail.mail,
    servers.reachable,
)
"""The checks of `lxc-gpu doctor`."""
LOGIN = (login.judged,)
"""The checks of `lxc-gpu doctor --login LOGIN`."""
MAIL = (mail.sent,)
"""The checks of `lxc-gpu doctor --mail ADDRESS`."""


def findings(path: Path, asked: str | None, address: str | None = None) -> list[Finding]:
    """All findings. If the configuration can't be used, that is the only one."""
    try:
        config = configuration.read(path)
    except configuration.ConfigError as error:
        return [Area("config").wrong(error.message, error.hint or f"Edit {path}.")]
    checks = CHECKS if asked is None else LOGIN
    checks = checks if address is None else MAIL
    return examine(checks, Iam(config, asked or "", address or ""), patience=40)


def main() -> None:
    """Run the checks and print their findings."""
    logging.disable()
    parser = argparse.ArgumentParser(prog="webui.doctor")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("--login")
    parser.add_argument("--mail")
    options = parser.parse_args()
    print(to_json(findings(options.config, options.login, options.mail)), flush=True)


if __name__ == "__main__":
    main()
