"""What a derived slice must say, what it must copy and what it must drop."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from ctclip.dicom import (
    CTSlice,
    NoiseInsertion,
    derive_slice,
    derived_series_number,
    derived_series_numbers,
    derived_series_uid,
    derived_uid,
    read_slice,
    save_slice,
    scan,
    to_stored,
)
from ctclip.dicom.derivation import NOISE_INSERTED_BY
from ctclip.dicom.uids import is_uid, source_series_uid
from ctclip.errors import ConfigError, SeriesError

from .fake import NOW, PATIENT, SERIES, fake_derivation, fake_pixels, fake_slice, write, write_native

COPIED = [
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionNumber",
    "InstanceNumber",
    "Manufacturer",
    "KVP",
    "ConvolutionKernel",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "PhotometricInterpretation",
    "PatientPosition",
    "ReferringPhysicianName",
]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Dataset], CTSlice]:
    """Write a fake slice and read it back."""
    return lambda ds: read_slice(write(ds, tmp_path / "source"))


def derive(ct: CTSlice, *, now: datetime = NOW, stored: np.ndarray | None = None, **overrides: Any) -> Dataset:
    """Derive with plausible values."""
    pixels = ct.stored if stored is None else stored
    return derive_slice(ct, pixels, fake_derivation(**overrides), series_number=1004, now=now)


def reread(derived: Dataset, folder: Path) -> Dataset:
    """Save and read, so that the test sees what a viewer sees."""
    save_slice(derived, folder / "derived.dcm")
    return pydicom.dcmread(folder / "derived.dcm")


class TestUIDs:
    """Deterministic, valid, and different whenever the pixels or headers may differ."""

    def test_known_value(self) -> None:
        """A change of this value breaks the idempotence of re-runs across versions."""
        assert derived_uid("instance", "1.2.3") == "2.25.266559797102621622559315523937174368094"

    def test_boundaries_count(self) -> None:
        assert derived_uid("a", "bc") != derived_uid("ab", "c")

    @pytest.mark.parametrize("text", ["", "x", "1.2.3" * 20, "Ä"])
    def test_valid(self, text: str) -> None:
        uid = pydicom.uid.UID(derived_uid(text))
        assert uid.is_valid
        assert len(uid) <= 44

    @pytest.mark.parametrize(
        "change",
        [
            {"model_name": "other"},
            {"model_sha256": "cd" * 32},
            {"strength": 0.25},
            {"hu_window": (-1000.0, 3072.0)},
            {"parameters": "precision=fp16"},
            {"version": "0.1.1"},
            {"keep_private": True},
        ],
    )
    def test_every_parameter_counts(self, read: Callable, change: dict[str, Any]) -> None:
        ct = read(fake_slice())
        one, other = derive(ct), derive(ct, **change)
        assert one.SOPInstanceUID != other.SOPInstanceUID
        assert one.SeriesInstanceUID != other.SeriesInstanceUID

    @pytest.mark.parametrize(
        "change", [{"amount": "dose 0.5"}, {"parameters": "seed=1"}, {"version": "0.1.1"}, {"keep_private": True}]
    )
    def test_every_parameter_of_inserted_noise_counts(self, change: dict[str, Any]) -> None:
        noise = NoiseInsertion("dose 0.25", "seed=0", "0.1.0")
        assert derived_series_uid(SERIES, noise) != derived_series_uid(SERIES, replace(noise, **change))

    def test_rerun_is_idempotent(self, read: Callable) -> None:
        ct = read(fake_slice())
        one, other = derive(ct, strength=1), derive(ct, strength=1.0, now=datetime(2032, 1, 1))
        assert one.SOPInstanceUID == other.SOPInstanceUID
        assert one.SeriesInstanceUID == other.SeriesInstanceUID

    def test_slices_share_the_series_only(self, read: Callable) -> None:
        one, other = (derive(read(fake_slice(number, number))) for number in (1, 2))
        assert one.SeriesInstanceUID == other.SeriesInstanceUID == derived_series_uid(SERIES, fake_derivation())
        assert len({one.SOPInstanceUID, other.SOPInstanceUID, f"{SERIES}.1", f"{SERIES}.2"}) == 4

    @pytest.mark.parametrize(
        ("source", "taken", "expected"),
        [
            (4, set(), 1004),
            (4, {4, 1004}, 1005),
            (4, {1004, 1005, 1007}, 1006),
            (None, set(), 1000),
            (None, {1000}, 1001),
            (2**31 - 1, set(), 1000),
            (2**31 - 1000, set(), 1000),
            (2**31 - 1001, set(), 2**31 - 1),
            (2**31 - 1001, {2**31 - 1, 1000}, 1001),
            (-5000, set(), 1000),
            (-1000, set(), 1000),
        ],
    )
    def test_series_number(self, source: int | None, taken: set[int], expected: int) -> None:
        assert derived_series_number(source, frozenset(taken)) == expected

    def test_series_numbers_of_one_run_do_not_collide(self, tmp_path: Path) -> None:
        for index, number in enumerate((4, 4, 5, 1005, None)):
            write(fake_slice(0, 1, series=f"1.2.9.{index}", SeriesNumber=number), tmp_path / str(index))
        write(fake_slice(0, 1, series="1.2.9.9", SeriesNumber=4, StudyInstanceUID="1.2.4"), tmp_path / "other study")
        numbers = derived_series_numbers(scan(tmp_path))
        assert [numbers[f"1.2.9.{index}"] for index in (0, 1, 2, 3, 4, 9)] == [1004, 1006, 1007, 2005, 1000, 1004]

    def test_series_numbers_of_other_studies_do_not_matter(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1, series="1.2.9.1"), tmp_path / "a")
        write(fake_slice(0, 1, series="1.2.9.2", SeriesNumber=1004, StudyInstanceUID="1.2.4"), tmp_path / "b")
        assert derived_series_numbers(scan(tmp_path)) == {"1.2.9.1": 1004, "1.2.9.2": 2004}

    def test_earlier_results_in_the_export_change_no_series_number(self, tmp_path: Path) -> None:
        for index, number in enumerate((4, 1004)):
            write(fake_slice(0, 1, series=f"1.2.9.{index}", SeriesNumber=number), tmp_path / str(index))
        first = derived_series_numbers(scan(tmp_path))
        assert first == {"1.2.9.0": 1005, "1.2.9.1": 2004}
        done = {"DerivationDescription": fake_derivation().description}
        for index, number in enumerate(first.values()):
            write(fake_slice(0, 1, series=f"1.2.8.{index}", SeriesNumber=number, **done), tmp_path / f"done {index}")
        second = derived_series_numbers(scan(tmp_path))
        assert {uid: second[uid] for uid in first} == first

    def test_a_simulated_scan_counts_for_what_is_denoised_and_not_for_what_is_simulated(self, tmp_path: Path) -> None:
        noise = NoiseInsertion("dose 0.25", "seed=0", "0.1.0").description
        write(fake_slice(0, 1, series="1.2.9.1"), tmp_path / "a")
        write(fake_slice(0, 1, series="1.2.9.2", SeriesNumber=1004, DerivationDescription=noise), tmp_path / "b")
        found = scan(tmp_path)
        assert derived_series_numbers(found)["1.2.9.1"] == 1005
        assert derived_series_numbers(found, NOISE_INSERTED_BY)["1.2.9.1"] == 1004

    @pytest.mark.parametrize(
        "change",
        [
            {"StudyInstanceUID": "1.2.4"},
            {"FrameOfReferenceUID": "1.2.4"},
            {"SeriesNumber": 5},
            {"SeriesDescription": "Foot"},
            {"ConvolutionKernel": ["Br38f", "4"]},
            {"SliceThickness": 3.0},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_every_trait_of_a_series_without_uid_counts(self, change: dict[str, Any]) -> None:
        one, other = (fake_slice(SeriesInstanceUID=None, **each) for each in ({}, change))
        assert source_series_uid(one) == source_series_uid(fake_slice(9.0, 8, SeriesInstanceUID=None))
        assert source_series_uid(one) != source_series_uid(other)

    @pytest.mark.parametrize(
        ("text", "expected"), [("1." * 32, True), ("1." * 32 + "1", False), ("", False), ("1.2.x", False)]
    )
    def test_a_uid_has_no_more_than_64_characters(self, text: str, expected: bool) -> None:
        assert is_uid(text) is expected

    @pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
    def test_strength_out_of_range(self, strength: float) -> None:
        with pytest.raises(ConfigError, match="expected a number from 0 to 1"):
            fake_derivation(strength=strength)


class TestStatements:
    """What the derived slice says about itself."""

    def test_identity(self, read: Callable, tmp_path: Path) -> None:
        ds = reread(derive(read(fake_slice())), tmp_path)
        assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == CTImageStorage
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert ds.file_meta.ImplementationVersionName == "CTCLIP_0.1.0"
        assert ds.file_meta.ImplementationClassUID.startswith("2.25.")
        assert (ds.Modality, ds.SeriesNumber, ds.RescaleType) == ("CT", 1004, "HU")
        assert ds.SeriesDescription == "Head ctclip 0.5"

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI"]),
            (["DERIVED", "SECONDARY", "MIP"], ["DERIVED", "SECONDARY", "AXIAL", "MIP"]),
            (
                ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
                ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE", "REFORMATTED"],
            ),
            (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "AXIAL"]),
            ("ORIGINAL", ["DERIVED", "SECONDARY", "AXIAL"]),
            (None, ["DERIVED", "SECONDARY", "AXIAL"]),
        ],
    )
    def test_image_type(self, read: Callable, source: list[str] | str | None, expected: list[str]) -> None:
        assert list(derive(read(fake_slice(ImageType=source))).ImageType) == expected

    @pytest.mark.parametrize(
        ("original", "expected"),
        [
            ("x" * 70, "x" * 53 + " ctclip 0.5"),
            ("x" * 52 + " " * 5 + "y", "x" * 52 + " ctclip 0.5"),
            (None, "ctclip 0.5"),
            (["a", "b"], "a b ctclip 0.5"),
            ("tab\there", "tabhere ctclip 0.5"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:The value length")
    def test_series_description(self, read: Callable, original: Any, expected: str) -> None:
        description = derive(read(fake_slice(SeriesDescription=original))).SeriesDescription
        assert description == expected
        assert len(description) <= 64

    @pytest.mark.parametrize(
        ("character_set", "original"),
        [
            ("ISO_IR 13", b"\xb1\xb2\xb3"),
            (None, "Sch\xc3\x9cdel".encode("latin-1")),
            ("ISO_IR 192", "Sch\xe4del".encode("latin-1")),
            ("ISO_IR 192", "Sch\xe4del".encode()),
            ("GB18030", b"\xff\xff"),
        ],
    )
    def test_descriptions_keep_the_bytes_of_any_character_set(
        self, tmp_path: Path, character_set: str | None, original: bytes
    ) -> None:
        place = b"x" * (len(original) + len(original) % 2)
        given = {} if character_set is None else {"SpecificCharacterSet": character_set}
        text = place.decode()
        path = write(fake_slice(SeriesDescription=text, DerivationDescription=text, **given), tmp_path / "source")
        path.write_bytes(path.read_bytes().replace(place, original.ljust(len(place))))
        save_slice(derive(read_slice(path)), tmp_path / "derived")
        derived = pydicom.dcmread(tmp_path / "derived")
        assert derived.get_item("SeriesDescription").value.rstrip() == original + b" ctclip 0.5"
        earlier = derived.get_item("DerivationDescription").value.rstrip()
        assert earlier.startswith(b"Denoised by ctclip")
        assert earlier.endswith(b" | " + original)

    def test_a_long_description_in_two_character_sets_ends_at_a_character(self, read: Callable) -> None:
        source = fake_slice(SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="\u80f8" * 60)
        assert derive(read(source)).SeriesDescription == "\u80f8" * 53 + " ctclip 0.5"

    @pytest.mark.parametrize(("length", "kept"), [(64, 53), (53, 53)])
    def test_broken_descriptions_fit(self, tmp_path: Path, length: int, kept: int) -> None:
        path = write(fake_slice(SeriesDescription="x" * length, SpecificCharacterSet="ISO_IR 192"), tmp_path / "source")
        path.write_bytes(path.read_bytes().replace(b"x" * length, b"\xe4" * length))
        save_slice(derive(read_slice(path)), tmp_path / "derived")
        written = pydicom.dcmread(tmp_path / "derived").get_item("SeriesDescription").value
        assert written == b"\xe4" * kept + b" ctclip 0.5"

    def test_times(self, read: Callable) -> None:
        ds = derive(read(fake_slice()))
        for kind in ("Series", "InstanceCreation", "Content"):
            assert ds[f"{kind}Date"].value == "20310203"
            assert ds[f"{kind}Time"].value == "040506.000000"
        assert (ds.StudyDate, ds.AcquisitionDate, ds.AcquisitionTime) == ("20200101", "20200101", "101113")

    def test_derivation(self, read: Callable) -> None:
        ds = derive(read(fake_slice()))
        for part in ("ctclip 0.1.0", "ct-small", "ab" * 32, "strength 0.5", "-1024 to 3072", "roi=none"):
            assert part in ds.DerivationDescription
        code = ds.DerivationCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("113087", "DCM", "Smoothing")

    def test_earlier_derivation_is_kept(self, read: Callable) -> None:
        source = fake_slice(DerivationDescription="y" * 1000)
        lossy = Dataset()
        lossy.CodeValue, lossy.CodingSchemeDesignator, lossy.CodeMeaning = "113040", "DCM", "Lossy Compression"
        source.DerivationCodeSequence = [lossy]
        ds = derive(read(source))
        assert [code.CodeValue for code in ds.DerivationCodeSequence] == ["113040", "113087"]
        assert len(ds.DerivationDescription) == 1024
        assert ds.DerivationDescription.startswith("Denoised by ctclip")
        assert " | yyy" in ds.DerivationDescription

    def test_a_code_that_the_source_has_already_stands_there_once(self, read: Callable) -> None:
        source = fake_slice()
        smoothed = Dataset()
        smoothed.CodeValue, smoothed.CodingSchemeDesignator, smoothed.CodeMeaning = "113087", "DCM", "Smoothing"
        source.DerivationCodeSequence = [smoothed]
        assert [code.CodeValue for code in derive(read(source)).DerivationCodeSequence] == ["113087"]

    def test_names_of_any_kind_and_length_become_what_dicom_can_hold(self, read: Callable, tmp_path: Path) -> None:
        ds = reread(derive(read(fake_slice()), model_name="Ger\u00e4t\\x", version="9\\\u00e4" + "1" * 77), tmp_path)
        (equipment,) = ds.ContributingEquipmentSequence
        assert "model Ger?t/x" in ds.DerivationDescription
        assert ds.DerivationDescription.startswith("Denoised by ctclip 9/?1")
        assert equipment.ManufacturerModelName == "Ger?t/x"
        assert equipment.SoftwareVersions == "9/?" + "1" * 61, "a Long String holds 64 characters"
        assert ds.file_meta.ImplementationVersionName == "CTCLIP_9/?111111", "a Short String holds 16"

    def test_a_number_of_frames_becomes_one(self, read: Callable) -> None:
        assert derive(read(fake_slice(NumberOfFrames=0))).NumberOfFrames == 1

    def test_the_reference_states_the_class_of_the_source(self, read: Callable) -> None:
        (item,) = derive(read(fake_slice(SOPClassUID=SecondaryCaptureImageStorage))).SourceImageSequence
        assert item.ReferencedSOPClassUID == SecondaryCaptureImageStorage

    def test_long_parameters_fit(self, read: Callable) -> None:
        ds = derive(read(fake_slice()), parameters="p" * 3000)
        assert len(ds.DerivationDescription) == 1024

    def test_source_reference(self, read: Callable) -> None:
        source = fake_slice(0, 7)
        earlier = Dataset()
        earlier.ReferencedSOPClassUID, earlier.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.777"
        source.SourceImageSequence = [earlier]
        items = derive(read(source)).SourceImageSequence
        assert len(items) == 1
        assert items[0].ReferencedSOPInstanceUID == f"{SERIES}.7"
        assert items[0].ReferencedSOPClassUID == CTImageStorage
        assert items[0].SpatialLocationsPreserved == "YES"
        purpose = items[0].PurposeOfReferenceCodeSequence[0]
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
        assert purpose.CodeMeaning == "Source image for image processing operation"

    def test_a_frame_that_another_program_converted_is_the_source_itself(self, read: Callable) -> None:
        """Only what ctclip split itself refers to the Enhanced object: nobody else has those single images."""
        origin = Dataset()
        origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = EnhancedCTImageStorage, "1.2.3.777"
        origin.ReferencedFrameNumber = 2
        source = fake_slice(0, 7, ConversionSourceAttributesSequence=[origin])
        (item,) = derive(read(source)).SourceImageSequence
        assert item.ReferencedSOPInstanceUID == f"{SERIES}.7"
        assert "ReferencedFrameNumber" not in item

    def test_equipment_is_appended(self, read: Callable) -> None:
        other = Dataset()
        other.Manufacturer = "Somebody"
        ds = derive(read(fake_slice(ContributingEquipmentSequence=[other])), model_name="n\\" * 50)
        first, last = ds.ContributingEquipmentSequence
        assert first.Manufacturer == "Somebody"
        assert (last.Manufacturer, last.SoftwareVersions) == ("ctclip", "0.1.0")
        assert last.ManufacturerModelName == "n/" * 32
        other_letters = derive(read(fake_slice()), model_name="Gerät").ContributingEquipmentSequence[0]
        assert other_letters.ManufacturerModelName == "Ger?t"
        assert last.ContributionDateTime == "20310203040506.000000"
        assert last.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


class TestCopies:
    """What stays."""

    def test_copied_elements(self, read: Callable, tmp_path: Path) -> None:
        source = fake_slice()
        ds = reread(derive(read(source)), tmp_path)
        assert {key: ds[key].value for key in COPIED} == {key: source[key].value for key in COPIED}

    def test_nothing_else_appears(self, read: Callable) -> None:
        source = fake_slice()
        added = {element.keyword for element in derive(read(source))} - {element.keyword for element in source}
        assert added == {
            "SeriesDate",
            "SeriesTime",
            "InstanceCreationDate",
            "InstanceCreationTime",
            "Laterality",
            "RescaleType",
            "DerivationDescription",
            "DerivationCodeSequence",
            "SourceImageSequence",
            "ContributingEquipmentSequence",
        }

    def test_missing_patient_data_stay_missing(self, read: Callable) -> None:
        gone = ("PatientName", "PatientID", "PatientBirthDate", "Manufacturer")
        ds = derive(read(fake_slice(**dict.fromkeys(gone))))
        assert not [keyword for keyword in gone if keyword in ds]

    def test_missing_study_uid_gets_the_same_stand_in_for_all_slices(self, read: Callable) -> None:
        one, other = (derive(read(fake_slice(z, n, StudyInstanceUID=None))) for z, n in ((0, 1), (5, 2)))
        assert one.SOPInstanceUID != other.SOPInstanceUID
        assert one.StudyInstanceUID == other.StudyInstanceUID
        assert one.StudyInstanceUID.startswith("2.25.")

    def test_missing_sop_class_is_added(self, read: Callable) -> None:
        assert derive(read(fake_slice(SOPClassUID=None))).SOPClassUID == CTImageStorage

    def test_missing_modality_is_added(self, read: Callable) -> None:
        assert derive(read(fake_slice(Modality=None))).Modality == "CT"

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ({}, ""),
            ({"BodyPartExamined": "PARTIALBODY"}, ""),
            ({"BodyPartExamined": "HEAD"}, None),
            ({"Laterality": "L"}, "L"),
        ],
    )
    def test_an_unknown_side_is_stated_a_known_one_kept(
        self, read: Callable, source: dict[str, str], expected: str | None
    ) -> None:
        assert derive(read(fake_slice(**source))).get("Laterality") == expected

    def test_flags_are_carried(self, read: Callable) -> None:
        flags = {"BurnedInAnnotation": "YES", "RecognizableVisualFeatures": "YES", "PatientIdentityRemoved": "YES"}
        ds = derive(read(fake_slice(**flags)))
        assert {key: ds[key].value for key in flags} == flags

    def test_header_of_the_source_is_not_changed(self, read: Callable) -> None:
        source = fake_slice(SmallestImagePixelValue=1, DigitalSignaturesSequence=[Dataset()])
        source.add_new(0x00091001, "LO", "private")
        ct = read(source)
        before, meta, stored = copy.deepcopy(ct.header), copy.deepcopy(ct.header.file_meta), ct.stored.copy()
        derived = derive(ct)
        derived.ImagePositionPatient[0] = 99
        assert ct.header == before
        assert ct.header.file_meta == meta
        assert np.array_equal(ct.stored, stored)

    @pytest.mark.parametrize("keep_private", [False, True])
    def test_parts_of_big_endian_words_are_dropped(self, tmp_path: Path, keep_private: bool) -> None:
        source = fake_slice()
        source.add_new("VectorGridData", "OF", b"\1\2\3\4\5\6")
        source.private_block(0x11, "X", create=True).add_new(1, "OL", b"\1\2\3\4\5\6")
        source.private_block(0x11, "X").add_new(2, "OL", b"\1\2\3\4")
        source.private_block(0x11, "X").add_new(3, "OD", b"\1\2\3\4\5\6\7\x08")
        ct = read_slice(write_native(source, tmp_path / "a", ExplicitVRBigEndian))
        ds = reread(derive(ct, keep_private=keep_private), tmp_path)
        assert "VectorGridData" not in ds
        private = [element.value for element in ds if element.tag.group == 0x11]
        assert private == (["X", b"\4\3\2\1", b"\x08\7\6\5\4\3\2\1"] if keep_private else [])

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_other_encodings(self, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
        source = fake_slice()
        source.add_new("PixelPaddingValue", "SS", -2000)
        item = Dataset()
        item.ReferencedSOPInstanceUID, item.ReferencedFrameNumber = "1.2.3.4", 1
        source.ReferencedImageSequence = [item]
        for dataset in (source, item):
            words = b"\1\2\3\4" if syntax.is_little_endian else b"\2\1\4\3"
            dataset.add_new("RedPaletteColorLookupTableData", "OW", words)
        ct = read_slice(write_native(source, tmp_path / "a", syntax))
        ds = reread(derive(ct), tmp_path)
        assert {key: ds[key].value for key in COPIED} == {key: source[key].value for key in COPIED}
        assert (ds["PixelPaddingValue"].VR, ds.PixelPaddingValue) == ("SS", -2000)
        assert ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
        for dataset in (ds, ds.ReferencedImageSequence[0]):
            assert dataset.RedPaletteColorLookupTableData == b"\1\2\3\4"
        assert np.array_equal(ds.pixel_array, fake_pixels())

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_values_that_violate_their_vr_survive(self, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
        item = Dataset()
        item.SliceThickness = "3.5"
        path = write_native(fake_slice(ReferencedImageSequence=[item]), tmp_path / "a", syntax)
        content = path.read_bytes()
        # equally long: a date that is none, numbers that are none
        for old, new in ((b"19600102", b"unknown "), (b"2.0 ", b"two "), (b"3.5 ", b"much")):
            assert content.count(old) == 1
            content = content.replace(old, new)
        path.write_bytes(content)
        save_slice(derive(read_slice(path)), tmp_path / "b")
        written = (tmp_path / "b").read_bytes()
        assert b"unknown " in written
        assert b"two " in written
        assert b"much" in written
        assert b"\x20\0\x0d\0UI" in written, "others keep their representation"
        assert pydicom.dcmread(tmp_path / "b").PatientBirthDate == "unknown"

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    @pytest.mark.parametrize(("keyword", "vr", "value"), [("CTDIvol", "FD", 2.5), ("PixelPaddingRangeLimit", "SS", -9)])
    def test_numbers_of_the_wrong_length_survive_as_bytes(
        self, tmp_path: Path, syntax: pydicom.uid.UID, keyword: str, vr: str, value: float
    ) -> None:
        path = write_native(fake_slice(**{keyword: value}), tmp_path / "a", syntax)
        order, head = ("<", b"") if syntax.is_implicit_VR else (">", vr.encode())
        tag, length = pydicom.tag.Tag(keyword), "H" if head else "I"
        element = struct.pack(f"{order}HH", tag.group, tag.element) + head
        whole = struct.pack(f"{order}{length}{'d' if vr == 'FD' else 'h'}", 8 if vr == "FD" else 2, value)
        content = path.read_bytes()
        assert content.count(element + whole) == 1
        path.write_bytes(content.replace(element + whole, element + struct.pack(f"{order}{length}", 5) + b"\1\2\3\4\5"))
        save_slice(derive(read_slice(path)), tmp_path / "b")
        kept = pydicom.dcmread(tmp_path / "b").get_item(tag)
        assert (kept.VR, kept.value[:5]) == ("UN", b"\1\2\3\4\5")


def with_elements(path: Path, syntax: pydicom.uid.UID, *elements: bytes) -> Path:
    """A fake slice with encoded elements in front of its own, in whatever order: readers do not mind."""
    write_native(fake_slice(), path, syntax)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[:start] + b"".join(elements) + content[start:])
    return path


def implicit(keyword: str, value: bytes) -> bytes:
    """An element in implicit little endian."""
    tag = pydicom.tag.Tag(keyword)
    return struct.pack("<HHI", tag.group, tag.element, len(value)) + value


class TestBytes:
    """What ctclip does not change is copied as it is, whatever pydicom makes of it."""

    def derived(self, path: Path, **overrides: Any) -> Dataset:
        return reread(derive(read_slice(path), **overrides), path.parent)

    @pytest.mark.filterwarnings("ignore:Unknown encoding")
    @pytest.mark.parametrize("charset", [b"ISO_IR 192", b"\\ISO 2022 IR 87 ", b"no such "])
    def test_texts_that_are_invalid_in_their_character_set(self, tmp_path: Path, charset: bytes) -> None:
        name = b"M\xfcller^\x1b$B!\xff"
        elements = (implicit("SpecificCharacterSet", charset), implicit("InstitutionName", name))
        path = with_elements(tmp_path / "a", ImplicitVRLittleEndian, *elements)
        kept = self.derived(path).get_item("InstitutionName")
        assert (kept.VR, kept.value) == ("LO", name)

    def test_tags_of_the_wrong_length_survive(self, tmp_path: Path) -> None:
        path = with_elements(tmp_path / "a", ImplicitVRLittleEndian, implicit("FrameIncrementPointer", b"\1\2\3\4\5\6"))
        kept = self.derived(path).get_item("FrameIncrementPointer")
        assert (kept.VR, kept.value) == ("AT", b"\1\2\3\4\5\6")

    def test_an_ambiguous_vr_stops_no_slice(self, tmp_path: Path) -> None:
        path = with_elements(tmp_path / "a", ImplicitVRLittleEndian, implicit("ChannelMinimumValue", b"\1\2\3\4"))
        kept = self.derived(path).get_item("ChannelMinimumValue")
        assert (kept.VR, kept.value) == ("OW", b"\1\2\3\4")

    @pytest.mark.parametrize("keep_private", [False, True])
    def test_a_long_sequence_of_unknown_vr(self, tmp_path: Path, keep_private: bool) -> None:
        """Above 64 kB pydicom leaves it as bytes: it is cleaned all the same."""
        item = implicit("ReferencedSOPInstanceUID", b"1.22") + struct.pack("<HHI", 9, 0x1001, 6) + b"secret"
        items = (struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item) * 2000
        long = struct.pack("<HH2sHI", 8, 0x1140, b"UN", 0, len(items)) + items
        path = with_elements(tmp_path / "a", ExplicitVRLittleEndian, long)
        ds = self.derived(path, keep_private=keep_private)
        assert [item.ReferencedSOPInstanceUID for item in ds.ReferencedImageSequence] == ["1.22"] * 2000
        assert (b"secret" in (tmp_path / "derived.dcm").read_bytes()) == keep_private

    def test_a_sequence_without_items_is_none(self, tmp_path: Path) -> None:
        """pydicom makes an item of any bytes."""
        path = with_elements(tmp_path / "a", ImplicitVRLittleEndian, implicit("ReferencedImageSequence", b"7" * 24))
        assert "ReferencedImageSequence" not in self.derived(path)

    def test_private_elements_of_big_endian_files(self, tmp_path: Path) -> None:
        creator = struct.pack(">HH2sH", 9, 0x10, b"LO", 2) + b"X "
        private = struct.pack(">HH2sH", 9, 0x1001, b"LO", 4) + b"A\0\0\0"
        path = with_elements(tmp_path / "a", ExplicitVRBigEndian, creator, private)
        assert self.derived(path, keep_private=True).get_item(0x00091001).value == b"A\0\0\0"

    def test_an_odd_length_is_padded(self, tmp_path: Path) -> None:
        """GDCM refuses files with one inside a sequence."""
        path = with_elements(tmp_path / "a", ExplicitVRLittleEndian, struct.pack("<HH2sH", 8, 0x80, b"LO", 3) + b"abc")
        assert self.derived(path).get_item("InstitutionName").value == b"abc "

    def test_elements_of_the_file_meta_among_the_others_are_dropped(self, tmp_path: Path) -> None:
        path = with_elements(tmp_path / "a", ExplicitVRLittleEndian)
        stray = struct.pack("<HH2sH", 2, 0x16, b"AE", 2) + b"X "
        path.write_bytes(path.read_bytes().replace(b"\x08\0\x60\0CS", stray + b"\x08\0\x60\0CS"))
        assert np.array_equal(self.derived(path).pixel_array, fake_pixels())

    @pytest.mark.parametrize("vr", ["OW", "FD", "AT", "LO"])
    @pytest.mark.parametrize("keyword", ["InstanceCreationDate", "SeriesNumber", "SeriesDescription", "RescaleType"])
    def test_what_is_replaced_gets_its_own_vr(self, tmp_path: Path, keyword: str, vr: str) -> None:
        tag = pydicom.tag.Tag(keyword)
        head, length = struct.pack("<HH2s", tag.group, tag.element, vr.encode()), b"\2\0"
        length = b"\0\0\2\0\0\0" if vr == "OW" else length
        path = write(fake_slice(**{keyword: None} if keyword in fake_slice() else {}), tmp_path / "a")
        content = path.read_bytes()
        start = content.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
        path.write_bytes(content[:start] + head + length + b"1 " + content[start:])
        own = pydicom.datadict.dictionary_VR(tag)
        kept = self.derived(path).get_item(keyword)
        assert own == kept.VR

    @pytest.mark.parametrize("vr", ["LO", "FD", "AT"])
    @pytest.mark.parametrize(
        "keyword",
        ["DerivationCodeSequence", "ContributingEquipmentSequence", "ConversionSourceAttributesSequence"],
    )
    def test_sequences_that_are_none(self, tmp_path: Path, keyword: str, vr: str) -> None:
        tag = pydicom.tag.Tag(keyword)
        element = struct.pack("<HH2sH", tag.group, tag.element, vr.encode(), 8) + b"\1\0\0\0\0\0\0\0"
        ds = self.derived(with_elements(tmp_path / "a", ExplicitVRLittleEndian, element))
        assert (
            len(ds.SourceImageSequence) == len(ds.DerivationCodeSequence) == len(ds.ContributingEquipmentSequence) == 1
        )


class TestDrops:
    """What must not be carried over."""

    @staticmethod
    def with_private() -> Dataset:
        """A slice with private elements at three levels, beside public ones."""
        source = fake_slice()
        source.add_new(0x00090010, "LO", "MAKER")
        source.add_new(0x00091001, "LO", "secret-0")
        inner, outer = Dataset(), Dataset()
        inner.add_new(0x00090010, "LO", "MAKER")
        inner.add_new(0x00091001, "LO", "secret-2")
        inner.CodeValue = "K"
        outer.add_new(0x00291001, "LO", "secret-1")
        outer.PurposeOfReferenceCodeSequence = [inner]
        outer.ReferencedSOPInstanceUID = "1.2.3.4"
        source.ReferencedImageSequence = [outer]
        return source

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_private_elements_at_every_level(self, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
        ct = read_slice(write_native(self.with_private(), tmp_path / "a", syntax))
        ds = reread(derive(ct), tmp_path)
        assert b"secret" not in (tmp_path / "derived.dcm").read_bytes()
        assert ds.ReferencedImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "K"

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_private_elements_are_kept_on_request(self, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
        ct = read_slice(write_native(self.with_private(), tmp_path / "a", syntax))
        reread(derive(ct, keep_private=True), tmp_path)
        written = (tmp_path / "derived.dcm").read_bytes()
        assert [written.count(b"secret-%d" % level) for level in range(3)] == [1, 1, 1]

    @pytest.mark.parametrize("whole", [True, False], ids=["parsable", "damaged"])
    def test_private_elements_in_a_sequence_of_unknown_vr(self, tmp_path: Path, whole: bool) -> None:
        """What cannot be parsed cannot be cleaned, so it goes."""
        private = b"\x09\0\x01\x10" + (6).to_bytes(4, "little") + b"secret"
        item = b"\xfe\xff\0\xe0" + len(private).to_bytes(4, "little") + private
        source = fake_slice()
        source.add_new(0x00081141, "UN", item if whole else b"secret")
        path = write(source, tmp_path / "source")
        # ReferencedImageSequence, which pydicom would parse on writing
        path.write_bytes(path.read_bytes().replace(b"\x08\0\x41\x11UN", b"\x08\0\x40\x11UN"))
        ds = reread(derive(read_slice(path)), tmp_path)
        assert b"secret" not in (tmp_path / "derived.dcm").read_bytes()
        assert ("ReferencedImageSequence" in ds) == whole

    def test_what_is_computed_from_the_pixels(self, read: Callable) -> None:
        extremes = [
            *("SmallestPixelValueInSeries", "LargestPixelValueInSeries"),
            *("SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane"),
        ]
        signed_item = Dataset()
        signed_item.DigitalSignaturesSequence = signed_item.IconImageSequence = [Dataset()]
        source = fake_slice(
            IconImageSequence=[Dataset()],
            DigitalSignaturesSequence=[Dataset()],
            MACParametersSequence=[Dataset()],
            DataSetTrailingPadding=b"\0\0",
            InstanceCreatorUID="1.2.3",
            ReferencedImageSequence=[signed_item],
            HistogramSequence=[Dataset()],
            PixelDataProviderURL="https://pacs/1",
            **dict.fromkeys(extremes, 0),
        )
        ds = derive(read(source))
        for keyword in ("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence", "HistogramSequence"):
            assert keyword not in ds
        for keyword in ("DataSetTrailingPadding", "InstanceCreatorUID", "PixelDataProviderURL", *extremes):
            assert keyword not in ds
        assert not ds.ReferencedImageSequence[0]

    def test_what_authorizes_or_coerced_the_source_instance(self, read: Callable) -> None:
        stated = {
            "SOPInstanceStatus": "AO",
            "SOPAuthorizationDateTime": "20200101120000",
            "SOPAuthorizationComment": "authorized",
            "AuthorizationEquipmentCertificationNumber": "X1",
            "InstanceCoercionDateTime": "20200101120000",
        }
        ds = derive(read(fake_slice(**stated)))
        assert not [keyword for keyword in stated if keyword in ds]

    @pytest.mark.parametrize(("source", "expected"), [("PRODUCT", "RESEARCH"), ("SERVICE", "SERVICE"), (None, None)])
    def test_content_is_no_product(self, read: Callable, source: str | None, expected: str | None) -> None:
        given = {} if source is None else {"ContentQualification": source}
        assert derive(read(fake_slice(**given))).get("ContentQualification") == expected

    def test_embedded_overlay_goes_real_overlay_stays(self, read: Callable) -> None:
        source = fake_slice(pixels=fake_pixels(signed=False), bits=12)
        source.add_new(0x60000010, "US", 12)
        source.add_new(0x60000102, "US", 12)
        source.add_new(0x601E0102, "US", 13)
        source.add_new(0x60020102, "US", 0)
        source.add_new(0x60023000, "OW", b"\1\0")
        groups = {element.tag.group for element in derive(read(source))}
        assert groups & {0x6000, 0x6002, 0x601E} == {0x6002}


class TestPixels:
    """The pixels and what describes them."""

    def test_pixels(self, read: Callable, tmp_path: Path) -> None:
        ct = read(fake_slice())
        stored = to_stored(ct, ct.hu + 7)
        ds = reread(derive(ct, stored=stored), tmp_path)
        assert np.array_equal(ds.pixel_array, ct.stored + 7)
        assert ds["PixelData"].VR == "OW"
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation) == (16, 16, 15, 1)

    def test_mixed_bits_stored_in_one_series(self, read: Callable) -> None:
        for bits, maximum in ((12, 4095), (16, 65535)):
            ct = read(fake_slice(pixels=fake_pixels(signed=False), bits=bits))
            ds = derive(ct, stored=to_stored(ct, np.full_like(ct.hu, 1e6)))
            assert (ds.BitsStored, ds.HighBit) == (bits, bits - 1)
            assert np.all(np.frombuffer(ds.PixelData, "<u2") == maximum)

    def test_values_of_the_upper_bits_are_written_in_the_lower_ones(self, read: Callable, tmp_path: Path) -> None:
        source = fake_slice(pixels=fake_pixels(signed=False) << 4)
        source.BitsStored = 12
        ds = reread(derive(read(source)), tmp_path)
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, 12, 11)
        assert np.array_equal(ds.pixel_array, fake_pixels(signed=False))

    def test_an_odd_number_of_bytes_is_padded(self, read: Callable, tmp_path: Path) -> None:
        pixels = np.arange(15, dtype=np.uint8).reshape(3, 5)
        content = pixels.tobytes() + b"\0"
        ds = reread(derive(read(fake_slice(pixels=pixels, bits=8, BitsAllocated=8, PixelData=content))), tmp_path)
        assert (ds["PixelData"].VR, len(ds.PixelData)) == ("OB", 16)
        assert np.array_equal(ds.pixel_array, pixels)

    def test_extremes_of_32_bit_pixels_have_no_element(self, read: Callable) -> None:
        pixels = fake_pixels(signed=False).astype(np.uint32)
        source = fake_slice(pixels=pixels, bits=32, BitsAllocated=32, SmallestImagePixelValue=0)
        derived = derive(read(source), stored=pixels * 100)
        assert "SmallestImagePixelValue" not in derived
        assert np.array_equal(np.frombuffer(derived.PixelData, "<u4").reshape(pixels.shape), pixels * 100)

    @pytest.mark.parametrize(("signed", "vr"), [(True, "SS"), (False, "US")])
    def test_extremes_are_recomputed_when_present(self, read: Callable, signed: bool, vr: str) -> None:
        source = fake_slice(pixels=fake_pixels(signed=signed), SmallestImagePixelValue=0, LargestImagePixelValue=1)
        stored = np.full_like(fake_pixels(signed=signed), 50)
        stored[0, 0], stored[1, 1] = (-7 if signed else 3), 1234
        ds = derive(read(source), stored=stored)
        assert (ds.SmallestImagePixelValue, ds.LargestImagePixelValue) == (stored[0, 0], 1234)
        assert ds["SmallestImagePixelValue"].VR == ds["LargestImagePixelValue"].VR == vr

    def test_extremes_are_not_invented(self, read: Callable) -> None:
        assert "SmallestImagePixelValue" not in derive(read(fake_slice()))

    @pytest.mark.parametrize(
        ("lossy", "header", "expected"),
        [
            (True, None, "01"),
            (True, "00", "01"),
            (False, "01", "01"),
            (False, "00", "00"),
            (False, None, None),
        ],
    )
    def test_lossy_flag(self, read: Callable, lossy: bool, header: str | None, expected: str | None) -> None:
        ct = read(fake_slice(LossyImageCompression=header) if header else fake_slice())
        assert derive(replace(ct, lossy=lossy)).get("LossyImageCompression") == expected

    def test_ratio_and_method_are_kept(self, read: Callable) -> None:
        ds = derive(read(fake_slice(LossyImageCompression="01", LossyImageCompressionRatio=8.5)))
        assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 8.5)

    def test_wrong_array_is_refused(self, read: Callable) -> None:
        ct = read(fake_slice())
        with pytest.raises(ValueError, match="float32, the slice has"):
            derive(ct, stored=ct.hu)
        with pytest.raises(ValueError, match=r"\(3, 16\) int16, the slice has \(12, 16\)"):
            derive(ct, stored=ct.stored[:3])


class TestSaving:
    """The file."""

    def test_is_a_dicom_file(self, read: Callable, tmp_path: Path) -> None:
        save_slice(derive(read(fake_slice())), tmp_path / "a")
        content = (tmp_path / "a").read_bytes()
        assert content[:132] == b"\0" * 128 + b"DICM"

    def test_same_input_same_file(self, read: Callable, tmp_path: Path) -> None:
        for name in "ab":
            save_slice(derive(read(fake_slice())), tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.filterwarnings("ignore:Invalid value")
    def test_what_cannot_be_encoded_is_a_series_error(self, read: Callable, tmp_path: Path) -> None:
        ds = derive(read(fake_slice()))
        ds.add_new("Rows", "US", -1)
        ds.PatientComments = PATIENT
        with pytest.raises(SeriesError, match="cannot be encoded") as caught:
            save_slice(ds, tmp_path / "a")
        assert "Muster" not in str(caught.value)
        assert not (tmp_path / "a").exists()


def test_the_preamble_of_the_source_is_not_copied(tmp_path: Path) -> None:
    """It may make a DICOM file a program, too."""
    source = write(fake_slice(), tmp_path / "source.dcm")
    with source.open("r+b") as file:
        file.write(b"MZ" + bytes(range(126)))
    ct = read_slice(source)
    save_slice(derive_slice(ct, ct.stored, fake_derivation(), series_number=7, now=NOW), tmp_path / "derived.dcm")
    assert (tmp_path / "derived.dcm").read_bytes()[:132] == bytes(128) + b"DICM"
    assert np.array_equal(read_slice(tmp_path / "derived.dcm").stored, ct.stored)


def test_times_are_in_the_zone_that_the_source_states(read: Callable[[Dataset], CTSlice]) -> None:
    now = datetime(2031, 2, 3, 20, 5, 6, tzinfo=UTC)
    for stated, date, time, written in (
        ("+0900", "20310204", "050506.000000", "20310204050506.000000+0900"),
        ("-0330", "20310203", "163506.000000", "20310203163506.000000-0330"),
    ):
        derived = derive(read(fake_slice(TimezoneOffsetFromUTC=stated)), now=now)
        assert derived.TimezoneOffsetFromUTC == stated
        for kind in ("Series", "InstanceCreation", "Content"):
            assert (derived[f"{kind}Date"].value, derived[f"{kind}Time"].value) == (date, time)
        assert derived.ContributingEquipmentSequence[-1].ContributionDateTime == written
    derived = derive(read(fake_slice(TimezoneOffsetFromUTC="east")), now=now.replace(tzinfo=None))
    assert derived.SeriesTime == "200506.000000"


def test_nothing_of_the_compressed_pixels_or_their_place_is_left(read: Callable[[Dataset], CTSlice]) -> None:
    place = {
        **{"RetrieveAETitle": "PACS", "InstanceAvailability": "ONLINE", "StorageMediaFileSetUID": "1.2.3"},
        **{"RetrieveURL": "https://pacs/1", "RetrieveURI": "https://pacs/2", "StorageMediaFileSetID": "A"},
    }
    source = fake_slice(**place)
    source.compress(RLELossless, encapsulate_ext=True, generate_instance_uid=False)
    assert "ExtendedOffsetTable" in source
    derived = derive(read(source))
    left = {element.keyword for element in derived if element.tag.group in (0x0088, 0x7FE0)}
    assert left == {"PixelData"}
    assert not [keyword for keyword in place if keyword in derived]
