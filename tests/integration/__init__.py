"""Tests of real programs on loopback; some fetch them by the lab's own modules."""

from tests.lab import CHECKOUT as CHECKOUT
