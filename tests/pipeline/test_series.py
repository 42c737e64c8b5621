"""What becomes of one series: its measured noise, its quality report, and what an earlier run has made of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from ctclip.data.folders import require_folders
from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.demo import read_series_hu, write_ct_series
from ctclip.denoise import Denoiser
from ctclip.dicom import CTSlice, Scan, Series, SkippedFile, read_slice, save_slice, scan
from ctclip.dicom.derivation import DENOISED_BY
from ctclip.errors import ConfigError, SeriesError
from ctclip.metrics.noise import compare_noise
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.pipeline import DenoiserSpec, Plan, SeriesJob, SeriesResult, denoise_series, plan_series, report
from ctclip.pipeline.choose import choose_series
from ctclip.pipeline.noise import MEASURED_SLICES, SeriesNoise
from ctclip.pipeline.strict import require_readable
from ctclip.pipeline.volume import denoise_volume_file
from ctclip.sampling import evenly_spread
from tests.dicom.fake import fake_pixels, fake_slice, write, write_stack


@pytest.fixture
def series(export: Path) -> Series:
    return scan(export).series[0]


@pytest.fixture
def denoiser(tiny_model: Path) -> Denoiser:
    return DenoiserSpec(str(tiny_model), device="cpu", precision="fp32").load()


class Recorder:
    """In place of a denoiser: changes nothing and keeps what it is given, series of slices by series of slices."""

    model_name, model_sha256, parameters, device, hu_window = "recorder", "", "", "cpu", (-1024.0, 3072.0)

    def __init__(self) -> None:
        self.given_hu: list[list[np.ndarray]] = []
        self.strengths: list[float] = []

    def denoise_slices(self, slices_hu: Iterable[np.ndarray], *, strength: float) -> Iterator[np.ndarray]:
        self.given_hu.append([])
        self.strengths.append(strength)
        for each in slices_hu:
            self.given_hu[-1].append(each)
            yield each

    def batch_of(self, shape: tuple[int, ...]) -> int:
        return 1


def test_the_network_sees_the_low_end_of_its_window_in_place_of_padding(tmp_path: Path) -> None:
    pixels = fake_pixels()
    pixels[:2] = -2000
    write(fake_slice(pixels=pixels, PixelPaddingValue=-2000), tmp_path / "in")
    recorder = Recorder()
    result = denoise_series(scan(tmp_path / "in").series[0], SeriesJob(tmp_path / "out", 0.5), recorder)
    assert result.status == "done", result.message
    assert recorder.strengths == [0.5]
    expected = np.where(pixels == -2000, -1024, pixels - 1024.0)
    np.testing.assert_array_equal(recorder.given_hu, [[expected]])
    np.testing.assert_array_equal(read_slice(tmp_path / "out" / result.derived / "0001.dcm").stored, pixels)


def test_slices_of_other_geometry_are_no_neighbours(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", [0, 2, 4])
    write(fake_slice(6, 4, PixelSpacing=[0.7, 0.7]), tmp_path / "in" / "other")
    recorder = Recorder()
    assert denoise_series(scan(tmp_path / "in").series[0], SeriesJob(tmp_path / "out", 1), recorder).status == "done"
    assert [len(stack) for stack in recorder.given_hu] == [3, 1]


def test_all_slices_of_a_derived_series_state_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class EveryCallASecondLater(datetime):
        seconds = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            cls.seconds += 1
            return datetime(2031, 2, 3, 4, 5, cls.seconds)

    monkeypatch.setattr("ctclip.dicom.write.datetime", EveryCallASecondLater)
    write_stack(tmp_path / "in", [0, 2, 4])
    result = denoise_series(scan(tmp_path / "in").series[0], SeriesJob(tmp_path / "out", 1), Recorder())
    derived = [pydicom.dcmread(path) for path in (tmp_path / "out" / result.derived).iterdir()]
    assert len(derived) == 3
    assert {(ds.SeriesDate, ds.SeriesTime) for ds in derived} == {("20310203", "040501.000000")}


@pytest.mark.parametrize(("intercepts", "status"), [((-1024, 0), "done"), ((0, 0), "failed")])
def test_a_series_without_any_value_below_0_hu_is_no_ct(tmp_path: Path, intercepts: tuple, status: str) -> None:
    for number, intercept in enumerate(intercepts, start=1):
        write(fake_slice(number, number, intercept=intercept), tmp_path / "in" / str(number))
    result = denoise_series(scan(tmp_path / "in").series[0], SeriesJob(tmp_path / "out", 1), Recorder())
    assert (result.status, "no value below 0 HU" in result.message) == (status, status == "failed")
    assert (tmp_path / "out" / result.derived).exists() == (status == "done")


def test_a_slice_that_another_has_replaced_since_the_scan_fails_the_series(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", [0, 2])
    series = scan(tmp_path / "in").series[0]
    write(fake_slice(2, 3), series.slices[1].path)
    result = denoise_series(series, SeriesJob(tmp_path / "out", 1), Recorder())
    assert (result.status, result.message.split(" was ")[1][:19]) == ("failed", "replaced by another")


def test_a_series_that_cannot_be_checked_is_a_failure(tmp_path: Path) -> None:
    paths = write_stack(tmp_path / "in", [0, 2])
    job, series = SeriesJob(tmp_path / "out", 1, resume=True), scan(tmp_path / "in").series[0]
    assert denoise_series(series, job, Recorder()).status == "done"
    paths[0].unlink()
    result = denoise_series(series, replace(job, check=True), Recorder())
    assert result.status == "failed"
    assert result.message.startswith("written, but not checked: ")


def test_noise_is_that_of_evenly_spread_slices() -> None:
    count = 3 * MEASURED_SLICES
    before = low_dose(np.repeat(body_phantom_hu(1, 64), count, axis=0), 20)
    after = before * 0.5 + 0.5 * body_phantom_hu(1, 64) + 3
    noise, result = SeriesNoise(count), SeriesResult("1.2", count)
    for pair in zip(before, after, strict=True):
        noise.add(lambda pair=pair: pair)
    noise.put_into(result)
    measured = [compare_noise(before[i], after[i]) for i in evenly_spread(count, MEASURED_SLICES)]
    assert result.noise_before_hu == pytest.approx(np.median([each.before_hu for each in measured]))
    assert result.noise_after_hu == pytest.approx(np.median([each.after_hu for each in measured]))
    assert result.shift_hu == pytest.approx(np.mean([each.shift_hu for each in measured]))
    assert result.noise_after_hu < 0.9 * result.noise_before_hu


def test_noise_without_soft_tissue_is_not_known() -> None:
    air = np.full((64, 64), -1000.0)
    noise, result = SeriesNoise(1), SeriesResult("1.2", 1)
    noise.add(lambda: (air, air))
    noise.put_into(result)
    assert np.isnan([result.noise_before_hu, result.noise_after_hu, result.shift_hu]).all()


def test_the_noise_is_measured_in_what_was_written(series: Series, denoiser: Denoiser, tmp_path: Path) -> None:
    result = denoise_series(series, SeriesJob(tmp_path / "out", 0.5), denoiser)
    before = read_series_hu(series.slices[0].path.parent)
    after = read_series_hu(tmp_path / "out" / result.derived)
    measured = [compare_noise(*pair) for pair in zip(before, after, strict=True)]
    assert result.noise_after_hu == pytest.approx(np.median([each.after_hu for each in measured]))


def test_the_next_batch_is_read_while_a_slice_is_written(
    denoiser: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ct_series(tmp_path / "in", low_dose(body_phantom_hu(32, 64), 30))
    denoiser.batch_size, begun, enough = 8, [], threading.Event()

    def read(path: Path) -> CTSlice:
        begun.append(path)
        if len(begun) == 3 * denoiser.batch_size:  # one is written, one in the network, one waits
            enough.set()
        return read_slice(path)

    def save(*arguments: Any) -> None:
        assert enough.wait(60)
        save_slice(*arguments)

    monkeypatch.setattr("ctclip.pipeline.series.read_slice", read)
    monkeypatch.setattr("ctclip.dicom.write.save_slice", save)
    result = denoise_series(scan(tmp_path / "in").series[0], SeriesJob(tmp_path / "out", 0.5), denoiser)
    assert (result.status, result.slices) == ("done", 32)


def test_a_quality_report_is_named_by_the_derived_series(series: Series, denoiser: Denoiser, tmp_path: Path) -> None:
    done = []
    job = SeriesJob(tmp_path / "out", 0.5, qc_folder=tmp_path / "qc")
    result = denoise_series(series, job, denoiser, lambda: done.append(1))
    assert result.status == "done", result.message
    assert len(done) == series.slice_count
    assert sorted(path.name for path in (tmp_path / "qc").iterdir()) == [
        f"{result.derived}.html",
        f"{result.derived}.json",
    ]
    assert (tmp_path / "out" / result.derived).is_dir()


def test_a_series_whose_quality_report_cannot_be_written_does_not_appear(
    series: Series, denoiser: Denoiser, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    result = denoise_series(series, SeriesJob(tmp_path / "out", 0.5, qc_folder=tmp_path / "file" / "qc"), denoiser)
    assert result.status == "failed"
    assert not (tmp_path / "out").exists()


def test_a_finished_series_is_kept_and_not_read_again(series: Series, denoiser: Denoiser, tmp_path: Path) -> None:
    job = SeriesJob(tmp_path / "out", 0.5, resume=True)
    first = denoise_series(series, job, denoiser)
    for item in series.slices:
        item.path.unlink()
    again = denoise_series(series, job, denoiser)
    assert (first.status, again.status, again.derived) == ("done", "kept", first.derived)
    other = denoise_series(series, SeriesJob(tmp_path / "out", 0.6, resume=True), denoiser)
    assert other.status == "failed", "another strength is another series, whose source is gone"


def test_a_series_that_the_scan_found_damaged_fails_whatever_an_earlier_run_has_left(
    series: Series, denoiser: Denoiser, tmp_path: Path
) -> None:
    job = SeriesJob(tmp_path / "out", 0.5, resume=True)
    assert denoise_series(series, job, denoiser).status == "done"
    damaged = replace(series, failure="1 of its files cannot be read")
    again = denoise_series(damaged, job, denoiser)
    assert (again.status, again.message) == ("failed", "1 of its files cannot be read")
    assert plan_series(damaged, job, denoiser) == Plan("fail (1 of its files cannot be read)", fails=True)


def test_what_cannot_be_made_again_is_not_said_to_be(series: Series, denoiser: Denoiser, tmp_path: Path) -> None:
    job = SeriesJob(tmp_path / "out", 0.5, resume=True)
    folder = tmp_path / "out" / denoise_series(series, job, denoiser).derived
    (folder / "0002.dcm").unlink()
    (folder / "notes.txt").write_text("mine")
    again = denoise_series(series, job, denoiser)
    assert again.status == "failed"
    assert again.warnings == series.warnings


@pytest.mark.parametrize("length", [0, 200, 3000, -1])
def test_a_result_that_was_cut_off_is_made_again(
    series: Series, denoiser: Denoiser, tmp_path: Path, length: int
) -> None:
    job = SeriesJob(tmp_path / "out", 0.5, resume=True)
    cut = tmp_path / "out" / denoise_series(series, job, denoiser).derived / "0002.dcm"
    stored = read_slice(cut).stored
    cut.write_bytes(cut.read_bytes()[:length])
    again = denoise_series(series, job, denoiser)
    assert again.status == "done"
    assert "an earlier run had 1 of now 2 slices; made again" in again.warnings
    np.testing.assert_array_equal(read_slice(cut).stored, stored)
    assert denoise_series(series, job, denoiser).status == "kept"


def test_the_report_names_where_the_series_were_denoised(series: Series, denoiser: Denoiser, tmp_path: Path) -> None:
    result = denoise_series(series, SeriesJob(tmp_path / "out", 0.5), denoiser)
    result.device, result.settings = "cuda:0", "precision=bf16 roi=none"
    written = report([result, SeriesResult("1.2", 3, "failed")], denoiser, strength=0.5, found=None)
    assert (written["device"], written["settings"]) == ("cuda:0", "precision=bf16 roi=none")
    assert written["series"][1]["noise_before_hu"] is None


def test_a_result_of_other_slices_is_not_taken_for_finished(series: Series, denoiser: Denoiser, tmp_path: Path) -> None:
    job = SeriesJob(tmp_path / "out", 0.5, resume=True)
    assert denoise_series(series, job, denoiser).status == "done"
    path = series.slices[0].path
    replaced = pydicom.dcmread(path)
    replaced.SOPInstanceUID = replaced.file_meta.MediaStorageSOPInstanceUID = replaced.SOPInstanceUID + ".9"
    replaced.save_as(path)
    again = denoise_series(scan(path.parent).series[0], job, denoiser)
    assert again.status == "failed"
    assert "give --overwrite" in again.message


def test_a_quality_report_that_is_missing_is_made_when_resumed(
    series: Series, denoiser: Denoiser, tmp_path: Path
) -> None:
    first = denoise_series(series, SeriesJob(tmp_path / "out", 0.5, resume=True), denoiser)
    job = SeriesJob(tmp_path / "out", 0.5, resume=True, qc_folder=tmp_path / "qc")
    second = denoise_series(series, job, denoiser)
    assert second.status == "done"
    assert "an earlier run had no quality report; made again" in second.warnings
    assert (tmp_path / "qc" / f"{first.derived}.json").exists()
    assert denoise_series(series, job, denoiser).status == "kept"


def test_all_adds_what_is_off_by_default_but_never_what_cannot_be_denoised() -> None:
    axial, sagittal = Series("1", 1, (), ""), Series("2", 2, (), "", skip_reason="not axial")
    mixed = Series("3", 3, (), "", skip_reason="2 studies", selectable=False)
    found = Scan((axial, sagittal, mixed), (), frozenset())
    assert choose_series(found, []) == [axial]
    assert choose_series(found, ["all"]) == [axial, sagittal]
    assert choose_series(found, ["2", "1", "2"]) == [sagittal, axial], "once, however often it is asked for"
    with pytest.raises(SeriesError, match="series 3 cannot be denoised: 2 studies"):
        choose_series(found, ["1", "3"])
    with pytest.raises(SeriesError, match="series 4 is not in the input"):
        choose_series(found, ["1", "4"])
    with pytest.raises(SeriesError, match="series 4 is not in the input"):
        choose_series(found, ["all", "4"])
    with pytest.raises(SeriesError, match="series 3 cannot be denoised: 2 studies"):
        choose_series(found, ["3", "all"])
    assert choose_series(found, ["all", "1"]) == [axial, sagittal]
    result = Series("5", 5, (), "", skip_reason="denoised", made_by=DENOISED_BY)
    found = Scan((axial, sagittal, result), (), frozenset())
    assert choose_series(found, ["all"]) == [axial, sagittal], "whoever wants the reformats"
    assert choose_series(found, ["all", "5"]) == [axial, sagittal, result]


def test_nothing_is_written_into_the_input_by_another_name(tmp_path: Path) -> None:
    source, out, link, archive = (tmp_path / name for name in ("in", "in2", "link", "export.zip"))
    (source / "sub").mkdir(parents=True)
    link.symlink_to(source / "sub")
    archive.write_bytes(b"PK")
    require_folders(source, out, qc=tmp_path / "qc", report=tmp_path / "r.json")
    for given, places, name in (
        (source, {"target": link}, "the output"),
        (source, {"target": out, "qc": link / "qc"}, "--qc"),
        (source, {"target": out, "report": link / "r.json"}, "--report"),
        (link, {"target": source / "sub" / "out"}, "the output"),
        (archive, {"target": out, "report": archive}, "--report"),
    ):
        with pytest.raises(ConfigError, match=f"^{name} lies inside the input"):
            require_folders(given, **places)


def test_nothing_is_written_beside_a_single_slice_or_where_a_link_of_the_input_leads(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_stack(source, [0, 2])
    one = next(source.iterdir())
    for places, name in (({"target": source}, "the output"), ({"target": out, "qc": source}, "--qc")):
        with pytest.raises(ConfigError, match=f"^{name} is the folder of the input"):
            require_folders(one, **places)
    with pytest.raises(ConfigError, match="--report lies inside the input"):
        require_folders(one, out, report=one)
    require_folders(one, source / "out", qc=source / "qc", report=source / "r.json")
    out.mkdir()
    (source / "sub").mkdir()
    (source / "sub" / "up").symlink_to(source)
    require_folders(source, out)
    (source / "sub" / "results").symlink_to(out)
    other = tmp_path / "other"
    for places, name in (({"target": out}, "the output"), ({"target": other, "qc": out / "qc"}, "--qc")):
        with pytest.raises(ConfigError, match=f"a link inside the input leads to {name}"):
            require_folders(source, **places)


def test_places_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    source, file = tmp_path / "in", tmp_path / "file"
    source.mkdir()
    file.write_text("mine")
    for target, places, message in (
        (file / "a" / "b", {}, "the output lies below a file"),
        (tmp_path / "out", {"qc": file / "qc"}, "--qc lies below a file"),
        (tmp_path / "out", {"report": file / "r.json"}, "--report lies below a file"),
        (tmp_path / "out", {"report": tmp_path / "out"}, "--report is a folder"),
        (tmp_path / "new" / "out", {"report": tmp_path / "new"}, "--report is a folder"),
        (tmp_path / "out", {"qc": tmp_path / "qc", "report": tmp_path / "qc"}, "--report is a folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            require_folders(source, target, **places)
    require_folders(source, tmp_path / "out", qc=tmp_path / "out", report=tmp_path / "out" / "r.json")


def test_a_slice_that_is_gone_is_found_before_anything_is_written(tmp_path: Path) -> None:
    write_stack(tmp_path, [0, 2, 4])
    (series,) = scan(tmp_path).series
    seen: list[int] = []
    require_readable([series], lambda: seen.append(1))
    assert len(seen) == 3
    series.slices[1].path.unlink()
    with pytest.raises(SeriesError, match=rf"nothing was written: series {series.uid}: .*FileNotFoundError"):
        require_readable([series])


def test_slices_without_soft_tissue_do_not_hide_the_noise_of_the_others() -> None:
    air, noisy = np.full((64, 64), -1000.0), low_dose(body_phantom_hu(1, 64), 20)[0]
    noise, result = SeriesNoise(4), SeriesResult("1.2", 4)
    for pair in ((air, air), (noisy, noisy), (noisy, noisy), (noisy, noisy + 3)):
        noise.add(lambda pair=pair: pair)
    noise.put_into(result)
    assert result.noise_before_hu == result.noise_after_hu == pytest.approx(compare_noise(noisy, noisy).before_hu)
    assert result.shift_hu == pytest.approx(1, abs=1e-4), "the mean of 0, 0 and 3"


def test_a_volume_is_denoised_as_strongly_as_asked_for_and_its_noise_measured(tmp_path: Path) -> None:
    truth = body_phantom_hu(2, 64)
    noisy = low_dose(truth, 30)

    class Oracle:
        device, parameters = "cpu", "precision=fp32"

        def denoise(self, hu: np.ndarray, *, strength: float, check_hu: bool, progress: object) -> np.ndarray:
            return (hu + strength * (truth - hu)).astype(np.float32)

    write_volume(tmp_path / "in.nii", Volume(noisy, np.diag([-1.0, -1, 1, 1]), np.dtype(np.float32)))
    result = denoise_volume_file(tmp_path / "in.nii", tmp_path / "new" / "out.nii", Oracle(), strength=0.75)
    expected = noisy + 0.75 * (truth - noisy)
    np.testing.assert_allclose(read_volume(tmp_path / "new" / "out.nii").hu, expected, atol=1e-2)
    measured = [compare_noise(*pair) for pair in zip(noisy, expected, strict=True)]
    assert result.noise_before_hu == pytest.approx(np.median([each.before_hu for each in measured]), rel=1e-3)
    assert result.noise_after_hu == pytest.approx(np.median([each.after_hu for each in measured]), rel=1e-3)
    assert result.noise_after_hu < result.noise_before_hu
    assert result.slices == 2
    assert (result.device, result.settings) == ("cpu", "precision=fp32")


def test_the_report_says_what_was_left_out_and_why(denoiser: Denoiser) -> None:
    found = Scan(
        (Series("1", 1, (), ""), Series("2", 2, (), "", skip_reason="not axial")),
        (SkippedFile(Path("Muster"), "not DICOM"),),
        frozenset(),
    )
    written = report([], denoiser, strength=0.5, found=found)
    assert written["skipped_series"] == {"1": "not asked for", "2": "not axial"}
    taken = report([SeriesResult("2", 0)], denoiser, strength=0.5, found=found)
    assert taken["skipped_series"] == {"1": "not asked for"}, "a series that was asked for is not skipped"
    assert written["skipped_files"] == {"not DICOM": 1}
    assert (written["model_sha256"], written["strength"]) == (denoiser.model_sha256, 0.5)
    assert "Muster" not in str(written)


def test_a_report_without_a_model_says_why(denoiser: Denoiser) -> None:
    written = report([], None, strength=0.5, found=None, error="unknown model")
    known = report([], denoiser, strength=0.5, found=None)
    assert written.keys() == known.keys()
    assert (written["error"], written["model"], written["device"]) == ("unknown model", None, None)
    assert known["error"] is None
