"""The quality control of a denoised series, against known answers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from ctclip.dicom import CTSlice
from ctclip.errors import ConfigError
from ctclip.metrics.tissue import TissueChange
from ctclip.phantom import body_phantom_hu
from ctclip.qc import MEASURED_SLICES, SHOWN_SLICES, QCSummary, QualityControl, evenly_spread
from ctclip.report.qc import QCReport, qc_page

SIZE, SD_HU, PIXEL_MM, SLICES = 384, 12.0, 0.7, 3
NAME = "1.2.826.0.1.99"
FACTS = {"model": "ct-compact", "strength": 0.37, "settings": "precision=fp32 roi=none", "derived_uid": NAME}


@pytest.fixture(scope="module")
def clean_hu() -> np.ndarray:
    return body_phantom_hu(SLICES, SIZE)


@pytest.fixture(scope="module")
def noisy_hu(clean_hu: np.ndarray) -> np.ndarray:
    return (clean_hu + np.random.default_rng(0).normal(0, SD_HU, clean_hu.shape)).astype(np.float32)


def ct_slice(hu: np.ndarray, padding: np.ndarray | None = None, spacing: Any = (PIXEL_MM, PIXEL_MM)) -> CTSlice:
    header = pydicom.Dataset()
    header.PatientName, header.PatientID, header.PatientBirthDate = "DOE^JANE", "MRN-4711", "19490523"
    header.SeriesDescription, header.StudyDate = "Chest of Jane", "20240229"
    header.PixelSpacing = list(spacing)
    no_padding = np.zeros(hu.shape, dtype=bool)
    return CTSlice(header, hu.astype(np.int16), 1.0, 0.0, hu, no_padding if padding is None else padding, False, "")


def run(folder: Path, before: np.ndarray, after: np.ndarray, **of_slice: Any) -> QCSummary:
    qc = QualityControl(len(before))
    for one, other in zip(before, after, strict=True):
        qc.add(ct_slice(one, **of_slice), other)
    return qc.write(folder, FACTS, name=NAME)


def page(folder: Path) -> str:
    return (folder / f"{NAME}.html").read_text(encoding="utf-8")


def data(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_a_shift_is_a_bias_and_nothing_else(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    found = run(tmp_path, noisy_hu, noisy_hu + 5)
    for tissue in ("air", "fat", "soft tissue"):
        assert found.tissues[tissue].bias_hu == pytest.approx(5.0, abs=1e-3)
    assert found.tissues["soft tissue"].noise_after_hu == pytest.approx(found.tissues["soft tissue"].noise_before_hu)
    assert found.edges_hu_per_mm["1000 HU"].percent == pytest.approx(0, abs=0.1)
    assert found.nps_mean_frequency_per_mm.ratio == pytest.approx(1, abs=1e-3)
    assert "CT numbers of soft tissue changed by +5.00 HU (at most 1 HU)" in found.warnings
    assert "+5.00" in page(tmp_path)


def test_half_of_white_noise_is_minus_50_percent(tmp_path: Path, clean_hu: np.ndarray, noisy_hu: np.ndarray) -> None:
    found = run(tmp_path, noisy_hu, (noisy_hu + clean_hu) / 2)
    tissue = found.tissues["soft tissue"]
    # the flattest fifth of white noise, judged by 81 pixels, lies a tenth below its SD
    assert tissue.noise_before_hu == pytest.approx(SD_HU, rel=0.15)
    assert data(tmp_path)["tissues"]["soft tissue"]["noise_change_percent"] == pytest.approx(-50, abs=1)
    assert tissue.bias_hu == pytest.approx(0, abs=0.2)
    assert found.nps_mean_frequency_per_mm.ratio == pytest.approx(1, abs=0.01)
    for edge in found.edges_hu_per_mm.values():
        assert edge.percent == pytest.approx(0, abs=1)
    assert found.structure_worst < 0.05
    assert found.warnings == ()


@pytest.mark.parametrize("left", [0.2, 0.5])
@pytest.mark.parametrize("sd_hu", [12.0, 30.0])
def test_removed_noise_does_not_look_like_anatomy(
    tmp_path: Path, clean_hu: np.ndarray, sd_hu: float, left: float
) -> None:
    noise = np.random.default_rng(1).normal(0, sd_hu, clean_hu.shape).astype(np.float32)
    found = run(tmp_path, clean_hu + noise, clean_hu + left * noise)
    assert abs(found.structure_worst) < 0.1
    assert found.warnings == ()


def test_a_blur_is_less_sharp_blotchier_and_shows_in_the_residual(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    blurred = np.stack([ndimage.gaussian_filter(each, 0.8) for each in noisy_hu])
    found = run(tmp_path, noisy_hu, blurred)
    for edge in found.edges_hu_per_mm.values():
        assert -35 < edge.percent < -10
    assert found.nps_mean_frequency_per_mm.ratio < 0.7
    assert found.structure > 0.4
    texts = " ".join(found.warnings)
    for word in ("anatomy shows", "edges of 1000 HU", "edges of 300 HU", "blotchier"):
        assert word in texts


def test_white_noise_has_the_mean_frequency_of_a_flat_spectrum(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    found = run(tmp_path, noisy_hu, noisy_hu)
    # half the Nyquist frequency; the fit to the regions takes low frequencies along
    assert found.nps_mean_frequency_per_mm.before == pytest.approx(0.5 / PIXEL_MM / 2, rel=0.06)
    assert found.structure == 0


def test_structure_is_not_called_noise(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    """A phantom's slice of bars between plates, without flat soft tissue, and a bone that varies by itself."""
    bars = np.where(np.indices((SIZE, SIZE))[1] // 4 % 2, 190.0, -110.0).astype(np.float32)
    skull = noisy_hu.copy()
    sides = np.random.default_rng(3).normal(700, 150, (SLICES, SIZE, 60))
    skull[:, :, :60] = skull[:, :, -60:] = sides
    before = np.concatenate([skull, bars[None], bars[None]])
    found = run(tmp_path, before, before)
    nps = data(tmp_path)["nps_hu2_mm2"]["before"]
    f, values = np.array(nps["frequency_per_mm"]), np.array(nps["nps_hu2_mm2"])
    # the integral over rings up to the Nyquist frequency: a circle in the square of all frequencies
    variance = 2 * np.pi * np.sum(f * values) * (f[1] - f[0])
    assert variance == pytest.approx(np.pi / 4 * SD_HU**2, rel=0.15)
    bone = found.tissues["bone"]
    assert np.isnan([bone.noise_before_hu, bone.noise_after_hu]).all()
    assert bone.bias_hu == 0
    assert found.tissues["soft tissue"].noise_before_hu == pytest.approx(SD_HU, rel=0.15)


def test_the_spectrum_is_that_of_all_slices_however_much_noise_they_have(tmp_path: Path) -> None:
    """The tube current follows the body, and the noise goes from a half to one and a half of its median."""
    sds_hu = np.linspace(0.5, 1.5, 6)[:, None, None] * SD_HU
    before = np.full((6, 128, 128), 40.0) + np.random.default_rng(0).normal(0, 1, (6, 128, 128)) * sds_hu
    run(tmp_path, before.astype(np.float32), before.astype(np.float32))
    nps = data(tmp_path)["nps_hu2_mm2"]["before"]
    high = np.mean(nps["nps_hu2_mm2"][4:])
    assert high == pytest.approx(float(np.mean(sds_hu**2)) * PIXEL_MM**2, rel=0.1)


def test_an_erased_organ_border_gives_the_warning(tmp_path: Path, clean_hu: np.ndarray, noisy_hu: np.ndarray) -> None:
    erased = clean_hu.copy()
    liver = (slice(None), slice(120, 250), slice(70, 190))
    erased[liver] = np.stack([ndimage.gaussian_filter(each, 6) for each in clean_hu])[liver]
    kept, lost = (run(tmp_path, noisy_hu, after) for after in (clean_hu, erased))
    assert kept.structure_worst < 0.1 < 0.25 < lost.structure_worst
    assert not any("anatomy" in text for text in kept.warnings)
    assert any(f"in slice {lost.structure_worst_slice}" in text for text in lost.warnings)
    assert "anatomy shows in what was removed" in page(tmp_path)


def test_the_worst_slice_is_counted_from_1(tmp_path: Path, clean_hu: np.ndarray, noisy_hu: np.ndarray) -> None:
    after = clean_hu.copy()
    after[1] = ndimage.gaussian_filter(clean_hu[1], 3)
    found = run(tmp_path, noisy_hu, after)
    assert found.measured == (1, 2, 3)
    assert found.structure_worst_slice == 2
    assert found.structure < found.structure_worst


def test_edges_and_spectra_are_in_millimetres(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    blurred = np.stack([ndimage.gaussian_filter(each, 0.8) for each in noisy_hu])
    small, large = (run(tmp_path, noisy_hu, blurred, spacing=(mm, mm)) for mm in (0.7, 1.4))
    for one, other in [*zip(small.edges_hu_per_mm.values(), large.edges_hu_per_mm.values(), strict=True)]:
        assert (one.before, one.after) == pytest.approx((2 * other.before, 2 * other.after))
    one, other = small.nps_mean_frequency_per_mm, large.nps_mean_frequency_per_mm
    assert (one.before, one.after) == pytest.approx((2 * other.before, 2 * other.after))


def test_padding_is_ignored(tmp_path: Path, clean_hu: np.ndarray, noisy_hu: np.ndarray) -> None:
    padding = np.zeros((SIZE, SIZE), dtype=bool)
    padding[:, : SIZE // 3] = True
    after = (noisy_hu + clean_hu) / 2
    fills = [np.where(padding, np.float32(fill), noisy_hu) for fill in (-2000, 60, -32768)]
    found = []
    for fill in fills:
        run(tmp_path, fill, np.where(padding, fill, after), padding=padding)
        found.append((data(tmp_path), page(tmp_path)))
    assert found[0] == found[1] == found[2]
    assert found[0][0]["tissues"]["soft tissue"]["noise_change_percent"] == pytest.approx(-50, abs=1)


def test_only_a_few_slices_are_held() -> None:
    hu = np.full((40, 40), -1000, dtype=np.float32)

    def held(slice_count: int) -> int:
        qc = QualityControl(slice_count)
        for _ in range(slice_count):
            qc.add(ct_slice(hu), hu)
        return sum(each.before_hu.nbytes + each.after_hu.nbytes for each in qc._pictures)

    assert held(1000) == held(50) == SHOWN_SLICES * 2 * hu.nbytes


def test_time_does_not_grow_with_the_number_of_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    hu = np.full((40, 40), -1000, dtype=np.float32)
    measured: list[int] = []
    monkeypatch.setattr("ctclip.qc._measure", lambda *_: measured.append(1) or {"structure": float("nan")})
    qc = QualityControl(500)
    for _ in range(500):
        qc.add(ct_slice(hu), hu)
    assert len(measured) == MEASURED_SLICES


@pytest.mark.parametrize(
    ("count", "at_most", "expected"), [(0, 3, []), (1, 3, [0]), (3, 3, [0, 1, 2]), (9, 3, [1, 4, 7]), (4, 3, [0, 2, 3])]
)
def test_slices_are_spread_evenly(count: int, at_most: int, expected: list[int]) -> None:
    assert evenly_spread(count, at_most) == expected


@pytest.mark.parametrize("slices", [0, 1, 5])
def test_what_cannot_be_measured_is_null(tmp_path: Path, slices: int) -> None:
    air = np.full((slices, 20, 30), -1000, dtype=np.float32)
    found = run(tmp_path, air, air)
    content = data(tmp_path)
    assert found.warnings == ()
    assert content["structure"] is None
    assert content["tissues"]["soft tissue"]["bias_hu"] is None
    assert content["edges_hu_per_mm"]["1000 HU"]["change_percent"] is None
    assert content["nps_mean_frequency_per_mm"] == {"before": None, "after": None, "ratio": None}
    assert (content["limits"], content["limits_checked"]) == (9, min(slices, 1)), "the bias of air"
    assert "not measured" in page(tmp_path)


@pytest.mark.parametrize(
    ("level_hu", "text", "fine"),
    [
        (-1000, "1 of 9 limits could be checked and are kept.", True),
        (-3000, "<strong>Nothing could be measured</strong>: none of the 9 limits was checked.", False),
    ],
)
def test_the_page_says_how_much_could_be_checked(tmp_path: Path, level_hu: float, text: str, fine: bool) -> None:
    """Air has a bias and nothing else; below it, there is no tissue."""
    empty = np.full((2, 40, 40), level_hu, dtype=np.float32)
    run(tmp_path, empty, empty)
    assert text in page(tmp_path)
    assert ('class="fine"' in page(tmp_path)) == fine


def test_limits_that_could_not_be_checked_are_counted(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    """The phantom has no lung, and no bone of 200 flat pixels."""
    for added_hu, text in (
        (0, "7 of 9 limits could be checked and are kept."),
        (5, "7 of 9 limits could be checked.<"),
    ):
        found = run(tmp_path, noisy_hu, noisy_hu + added_hu)
        assert text in page(tmp_path)
    tissues = dict.fromkeys(found.tissues, TissueChange(10.0, 6.0, 0.2))
    assert "All 9 limits are kept." in qc_page(QCReport(FACTS, replace(found, tissues=tissues), [], []))


@pytest.mark.parametrize("spacing", [(0.7, 0.9), (0, 0), ()])
def test_without_square_pixels_nothing_is_stated_per_mm(tmp_path: Path, noisy_hu: np.ndarray, spacing: Any) -> None:
    run(tmp_path, noisy_hu[:1], noisy_hu[:1], spacing=spacing)
    content = data(tmp_path)
    assert content["edges_hu_per_mm"]["1000 HU"]["before"] is None
    assert content["nps_mean_frequency_per_mm"]["before"] is None
    assert content["tissues"]["soft tissue"]["bias_hu"] == 0


def test_the_page_needs_no_network_and_tells_no_patient(tmp_path: Path, noisy_hu: np.ndarray) -> None:
    run(tmp_path, noisy_hu, noisy_hu)
    text = page(tmp_path)
    assert text.count("data:image/png") == SHOWN_SLICES * 3 * 3
    for forbidden in ("http:", "https:", "<script", "@import"):
        assert forbidden not in text
    assert text.count("url(") == text.count("url(#")
    # the letters of pictures are random
    for written in (re.sub(r"base64,[^\"]*", "", text), json.dumps(data(tmp_path))):
        for secret in ("DOE", "JANE", "Jane", "MRN", "4711", "19490523", "20240229"):
            assert secret not in written
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{NAME}.html", f"{NAME}.json"]


def test_facts_are_escaped_and_in_both_files(tmp_path: Path) -> None:
    qc = QualityControl(0)
    qc.write(tmp_path, {"model": "<b>x</b>", "settings": {"roi": None, "window": [-1024, 3072]}}, name=NAME)
    assert "&lt;b&gt;x&lt;/b&gt;" in page(tmp_path)
    assert "window -1024, 3072" in page(tmp_path)
    assert data(tmp_path)["facts"] == {"model": "<b>x</b>", "settings": {"roi": None, "window": [-1024, 3072]}}


@pytest.mark.parametrize("name", ["DOE_JANE", "", "../1.2", "1" * 65])
def test_a_name_that_is_no_uid_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no UID"):
        QualityControl(0).write(tmp_path, FACTS, name=name)
    assert not list(tmp_path.iterdir())
