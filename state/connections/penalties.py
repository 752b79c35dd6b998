"""Finds addresses that sshd may refuse: PerSourcePenalties (sshd_config(5)), OpenSSH 9.8."""

from __future__ import annotations

import re
from collections.abc import Iterable


def may_be_punished(shown: str, exempt: Iterable[str]) -> list[str]:
    """Those of `exempt` that an sshd doesn't exempt whose `-T` or `-G` prints `shown`. Pure.

    None where sshd punishes nobody, as before 9.8.
    """
    found = re.search(r"^persourcepenaltyexemptlist (.*)$", shown, re.M)
    if found is None or re.search(r"^persourcepenalties no$", shown, re.M):
        return []
    return [each for each in exempt if each not in found[1].split(",")]
