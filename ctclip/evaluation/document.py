"""From results to a report."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctclip import __version__
from ctclip.evaluation import methods as judged
from ctclip.evaluation.bench import BenchResult
from ctclip.evaluation.evaluate import Evaluation
from ctclip.evaluation.summary import Summary
from ctclip.report.content import (
    AcceptanceRow,
    ComparisonRow,
    Curve,
    Method,
    PatientRow,
    Report,
    SummaryRow,
)

LIBRARIES = ("torch", "monai", "scikit-image", "scipy", "numpy", "pydicom")


def make_report(
    evaluation: Evaluation,
    summary: Summary,
    bench: Mapping[str, BenchResult],
    methods: Sequence[judged.Method],
    settings: dict[str, str],
) -> Report:
    """Everything that was found, as plain data without patient data.

    Args:
        evaluation: all slices, panels and problems.
        summary: over patients.
        bench: results on the phantom, by method.
        methods: what was judged.
        settings: by name.
    """
    return Report(
        title="Evaluation of CT denoising",
        settings=settings,
        versions=versions(),
        methods=described(methods),
        problems=evaluation.problems,
        summary=[
            SummaryRow(
                name,
                measure,
                found.mean,
                found.low,
                found.high,
                found.sd,
                *summary.counts[name][measure],
            )
            for name, means in summary.means.items()
            for measure, found in means.items()
        ],
        patients=[
            PatientRow(name, patient, row)
            for name, patients in summary.patients.items()
            for patient, row in patients.items()
        ],
        slices=evaluation.slices,
        comparisons=[
            ComparisonRow(
                name,
                other,
                measure,
                found.interval.mean,
                found.interval.low,
                found.interval.high,
                found.p_value,
                found.patients,
            )
            for name, other, measure, found in summary.differences
        ],
        nps=[
            Curve(name, "noise left in the phantom", result.nps.frequency_per_mm, result.nps.nps_hu2_mm2)
            for name, result in bench.items()
        ],
        ttf=[
            Curve(name, f"rod of {contrast_hu:g} HU", transfer.frequency_per_mm, transfer.ttf)
            for name, result in bench.items()
            for contrast_hu, transfer in result.ttf.items()
        ],
        acceptance=[
            AcceptanceRow(
                each.method,
                each.criterion.name,
                each.criterion.unit,
                each.value,
                each.criterion.limit,
                each.passed,
                each.place,
            )
            for each in summary.judgements
        ],
        panels=evaluation.panels,
        phantom_noise_hu=evaluation.noise_sd_hu if bench else math.nan,
    )


def described(methods: Sequence[judged.Method]) -> list[Method]:
    """Methods as a report shows them."""
    return [Method(each.name, each.description, each.sha256) for each in methods]


def versions() -> dict[str, str]:
    """Of ctclip, with the commit of a checkout, and of what its figures depend on."""
    from importlib.metadata import version

    commit = _commit()
    return {
        "ctclip": f"{__version__}, commit {commit}" if commit else __version__,
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _commit() -> str:
    """Of the checkout that ctclip runs from, with a mark for local changes; "" for an installed package."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude", "*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
