"""Tests on real machines; they import the lab's own modules, which live below setup/."""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / "setup"), str(CHECKOUT)]
