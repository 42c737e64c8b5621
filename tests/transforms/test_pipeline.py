from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctclip import Denoiser
from ctclip.phantom import body_phantom_hu, low_dose

USAGE = Path(__file__).parents[2] / "docs" / "usage.md"


def _example() -> str:
    """The Python code in the section about pipelines."""
    section = USAGE.read_text(encoding="utf-8").split("## In a MONAI pipeline")[1]
    return section.split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_the_pipeline_of_the_documentation_gives_what_the_denoiser_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: tuple[int, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    hu = low_dose(body_phantom_hu(3, 96), 30).astype(np.float32)
    hu[:, :4] = -2000
    affine = np.diag([-0.7, -0.7, 2.0, 1.0])[:, [*axes, 3]]
    nib.save(nib.Nifti1Image(hu.T.transpose(axes), affine), "ct.nii.gz")
    exec(_example(), {})
    saved = nib.load("denoised/ct.nii.gz")
    np.testing.assert_allclose(saved.affine, affine)
    denoiser = Denoiser.load("ct-compact", precision="fp32", backend="eager", device="cpu")
    saved_hu = saved.get_fdata().transpose(np.argsort(axes)).T
    np.testing.assert_allclose(saved_hu, denoiser.denoise(hu, strength="medium"), atol=0.01)
    assert (saved_hu[:, :4] == -2000).all()
