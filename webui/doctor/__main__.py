"""Prints the findings as one line of JSON: `python -m webui.doctor [--login LOGIN]`.

With `--mail ADDRESS` a letter is sent there.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from state.wire.findings import Area, Finding, examine, to_json
from webui import config as configuration
from webui.doctor import login, mail, page, people, repository, servers
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
    people.directory_servers,
    mail.mail,
    servers.reachable,
)
"""What is looked at on the IAM machine."""
LOGIN = (login.judged,)
"""What `lxc-gpu doctor --login LOGIN` looks at."""
MAIL = (mail.sent,)
"""What `lxc-gpu doctor --mail ADDRESS` does."""


def findings(path: Path, asked: str | None, address: str | None = None) -> list[Finding]:
    """Everything found; a configuration that can't be used is all there is to find."""
    try:
        config = configuration.read(path)
    except configuration.ConfigError as error:
        return [Area("config").wrong(error.message, error.hint or f"Edit {path}.")]
    checks = CHECKS if asked is None else LOGIN
    checks = checks if address is None else MAIL
    return examine(checks, Iam(config, asked or "", address or ""), patience=40)


def main() -> None:
    """Look, and print."""
    logging.disable()
    parser = argparse.ArgumentParser(prog="webui.doctor")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("--login")
    parser.add_argument("--mail")
    options = parser.parse_args()
    print(to_json(findings(options.config, options.login, options.mail)), flush=True)


if __name__ == "__main__":
    main()
