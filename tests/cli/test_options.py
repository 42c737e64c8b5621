from __future__ import annotations

import pytest

from ctclip.cli.options import parse_names, parse_windows
from ctclip.errors import ConfigError


def test_windows_are_names_or_level_and_width() -> None:
    assert parse_windows("soft,full") == [(-160.0, 240.0), (-1024.0, 3072.0)]
    assert parse_windows("50,350, lung") == [(-125.0, 225.0), (-1350.0, 150.0)]
    assert parse_windows("soft,40,400") == [(-160.0, 240.0)]


@pytest.mark.parametrize(
    "text", ["liver", "50", "50,-10", "soft,50", "50,wide", "nan,400", "40,nan", "inf,400", "40,inf", "1e30,1", ""]
)
def test_wrong_windows_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--windows"):
        parse_windows(text)


def test_names_are_kept_in_order_without_doubles() -> None:
    assert parse_names(" nlm,median,,nlm") == ["nlm", "median"]
