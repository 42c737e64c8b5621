"""Options from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.demo import write_ct_series
from ctclip.phantom import body_phantom_hu, low_dose


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write_ct_series(tmp_path / "in", low_dose(body_phantom_hu(2, 64), 30))
    return tmp_path / "in"


def _run(export: Path, config: Any, *options: str) -> Result:
    path = export.parent / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    arguments = ["denoise", str(export), str(export.parent / "out"), "--config", str(path), *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_the_file_sets_defaults_and_the_command_line_counts_more(export: Path) -> None:
    listed = _run(export, {"dry-run": True})
    assert listed.exit_code == 0, listed.output
    assert not (export.parent / "out").exists()
    report = export.parent / "report.json"
    values = {"strength": "low", "precision": "fp32", "report": str(report), "device": "cpu"}
    done = _run(export, values, "--strength", "0.5")
    assert done.exit_code == 0, done.output
    written = json.loads(report.read_text())
    assert written["strength"] == 0.5
    assert "precision=fp32" in written["settings"]


@pytest.mark.parametrize("config", ["{", "[1]", {"strenght": "low"}, {"config.json": 1}])
def test_a_wrong_file_is_wrong_usage(export: Path, config: Any) -> None:
    result = _run(export, config)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (export.parent / "out").exists()
