import pytest

from reconciler.host import in_words


@pytest.mark.parametrize(
    ("number", "text"), [(None, "-"), (5, "5 B"), (2048, "2.0 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(number: int | None, text: str) -> None:
    assert in_words.size(number) == text


def test_columns() -> None:
    rows = [("NAME", "SIZE", ""), ("monday", "5 B", "x")]
    assert in_words.columns(rows) == ["NAME    SIZE", "monday  5 B   x"]
    assert in_words.columns(rows, right=(1,), indent=2) == ["  NAME    SIZE", "  monday   5 B  x"]
    assert in_words.columns([]) == []
