"""What systemd is told of a container."""

from pathlib import Path

UNITS = Path(__file__).parents[3] / "setup" / "units"


def test_no_start_of_a_container_is_one_too_many() -> None:
    """systemd refuses the sixth start within ten seconds otherwise (systemd.unit(5))."""
    unit, _, service = (UNITS / "lxc-gpu@.service").read_text().partition("[Service]")
    assert "StartLimitIntervalSec=0" in unit.splitlines()
    assert "Restart=" not in service
