from reconciler.plan import Observed, diff
from state.errors import LxcGpuError


def test_equal_means_no_change() -> None:
    assert diff({"ann": 1}, Observed({"ann": 1})) == ()


def test_removals_first_then_changes_then_new_things() -> None:
    changes = diff({"new": 1, "other": 2}, Observed({"other": 1, "gone": 1}))
    assert [(c.name, c.before, c.after) for c in changes] == [
        ("gone", 1, None),
        ("other", 1, 2),
        ("new", None, 1),
    ]


def test_unreadable_is_not_empty() -> None:
    observed: Observed[int] = Observed({}, {"ann": LxcGpuError("x", "cannot be read")})
    assert [c.name for c in diff({"ann": 1, "bob": 1}, observed)] == ["bob"]


def test_only_leaves_everybody_else_alone() -> None:
    changes = diff({"ann": 1, "bob": 1}, Observed({"eve": 1}), only="bob")
    assert [c.name for c in changes] == ["bob"]
