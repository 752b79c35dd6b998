"""What `lxc-gpu plan`, `reconcile` and `status` print for people."""

import pytest

from shells.commands.server import _outlook, _report_text
from state.wire.messages import Failure, Report


def test_a_failure_is_one_line_with_its_code() -> None:
    failure = Failure(
        "account", "ann", "account-conflict", "There is an account ann.", "Rename\nit."
    )
    nobodys = Failure("container", "-", "template-missing", "No debian-13 here.", "Make it.")
    report = Report("gpu17", "f6e602f5c0aa", 0.0, 0.4, ("port_map: x",), (failure, nobodys))
    assert _report_text(report).splitlines() == [
        "  port_map: x",
        "FAILED account ann: There is an account ann. Rename it. (account-conflict)",
        "FAILED container: No debian-13 here. Make it. (template-missing)",
        "gpu17: NOT converged at revision f6e602f5c0, 1 change, 0.40 s",
    ]


@pytest.mark.parametrize(
    ("changes", "failures", "says"),
    [
        (1, 0, "1 change to revision f6e602; `lxc-gpu reconcile` makes it."),
        (2, 0, "2 changes to revision f6e602; `lxc-gpu reconcile` makes them."),
        (
            0,
            1,
            "0 changes to revision f6e602. 1 failure: `lxc-gpu reconcile` fails in the same way.",
        ),
    ],
)
def test_a_plan_promises_no_more_than_a_round_does(changes: int, failures: int, says: str) -> None:
    assert _outlook("f6e602", changes, failures, "reconcile") == says
