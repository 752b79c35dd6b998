"""What `lxc-gpu reconcile` and `status` print for people."""

from shells.commands.server import _report_text
from state.wire.messages import Failure, Report


def test_a_failure_is_one_line_with_its_code() -> None:
    failure = Failure(
        "account", "ann", "account-conflict", "There is an account ann.", "Rename\nit."
    )
    report = Report("gpu17", "f6e602f5c0aa", 0.0, 0.4, ("port_map: x",), (failure,))
    assert _report_text(report).splitlines() == [
        "  port_map: x",
        "FAILED account ann: There is an account ann. Rename it. (account-conflict)",
        "gpu17: NOT converged at revision f6e602f5c0, 1 change, 0.40 s",
    ]
