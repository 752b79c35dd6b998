"""Old homes as a kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.kinds.containers.old_home import OldHomeKind
from state.errors import LxcGpuError
from state.view import Mount
from tests.unit.reconciler.views import RESIDENT, with_


def test_a_source_of_which_nothing_is_known_is_not_one_without_a_home() -> None:
    mount = Mount("/nowhere/homes", "/home/old", "home", mounted=False)
    view = with_(mounts=(mount,), residents={"lqchen": replace(RESIDENT, login="lqchen")})
    with pytest.raises(LxcGpuError) as refused:
        OldHomeKind().make_one(view, "lqchen", mount.source)
    assert refused.value.code == "mount-silent"
