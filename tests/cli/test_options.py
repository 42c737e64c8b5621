from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctclip.cli.benchmark import benchmark_app
from ctclip.cli.main import app
from ctclip.cli.options import parse_names, parse_window, parse_windows, path
from ctclip.cli.weights import weights_app
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


@pytest.mark.parametrize("text", ["liver", "", "soft,full"])
def test_a_wrong_window_names_the_option_that_was_given(text: str) -> None:
    with pytest.raises(ConfigError, match="--window "):
        parse_window(text)


def test_names_are_kept_in_order_without_doubles() -> None:
    assert parse_names(" nlm,median,,nlm") == ["nlm", "median"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("denoise", "in", ""),
        ("denoise", "", "out"),
        ("denoise", "in", "out", "--qc", ""),
        ("inspect", ""),
        ("evaluate", "in", "--output", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "found an empty text, expected a path; is a variable not set?" in result.output
    assert [each for each in tmp_path.iterdir() if each.name != "cache"] == []


def test_no_path_may_be_empty() -> None:
    commands = [each.callback for group in (app, benchmark_app, weights_app) for each in group.registered_commands]
    of_paths = [
        parameter.default
        for command in commands
        if command is not None
        for parameter in inspect.signature(command).parameters.values()
        if "Path" in str(parameter.annotation)
    ]
    assert len(of_paths) > 20
    assert all(each.parser is path for each in of_paths)
