"""Options from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.data.volumes import Volume, write_volume
from ctclip.demo import write_ct_series
from ctclip.phantom import body_phantom_hu, low_dose

OF_NO_EFFECT = ("source", "target", "config", "help", "-q", "dry_run")


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


@pytest.mark.parametrize(
    "config", ["{", "[1]", {"strenght": "low"}, {"config.json": 1}, *({name: "x"} for name in OF_NO_EFFECT)]
)
def test_a_wrong_file_is_wrong_usage(export: Path, config: Any) -> None:
    result = _run(export, config)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (export.parent / "out").exists()


def test_a_single_value_will_do_where_several_may_be_given(export: Path) -> None:
    result = _run(export, {"series": "1.2.3", "dry-run": True})
    assert result.exit_code == 1
    assert "series 1.2.3 is not in the input" in result.output


def test_defaults_without_an_effect_on_the_input_are_left_out(export: Path, tmp_path: Path) -> None:
    hu = low_dose(body_phantom_hu(2, 64), 30)
    write_volume(tmp_path / "in.nii.gz", Volume(hu, np.diag([-1.0, -1, 3, 1]), np.dtype(np.int16)))
    config = tmp_path / "site.json"
    config.write_text(json.dumps({"check": True, "resume": True, "overlap": 0.5, "strength": "low"}))
    arguments = ["denoise", str(tmp_path / "in.nii.gz"), str(tmp_path / "out.nii.gz"), "--config", str(config)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.nii.gz").is_file()
    typed = CliRunner().invoke(app, [*arguments, "--check", "--overwrite"])
    assert typed.exit_code == 2
    assert "no effect on a volume: --check" in typed.output


def test_what_is_typed_counts_more_than_the_opposite_in_the_file(export: Path) -> None:
    assert _run(export, {"resume": True}, "--overwrite").exit_code == 0
    again = _run(export, {"resume": True}, "--overwrite")
    assert again.exit_code == 0
    assert "done by an earlier run" not in again.output
    assert "done by an earlier run" in _run(export, {"overwrite": True}, "--resume").output
    assert "give one of them" in _run(export, {}, "--overwrite", "--resume").output
