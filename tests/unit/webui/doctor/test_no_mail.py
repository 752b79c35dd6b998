"""Without mail no idle container is stopped: the doctor says so where the state wants one to be."""

from __future__ import annotations

from state.wire.findings import Level
from webui.doctor.mail import no_mail


def test_it_is_wrong_only_where_a_server_would_stop_one() -> None:
    assert no_mail([]).level is Level.OK
    found = no_mail(["gpu17", "gpu18"])
    assert found.level is Level.WRONG
    assert "But `idle` in servers/gpu17.yaml says" in found.text
