"""Results of others on the same noise, as they published them: never measured here, always shown apart."""

from __future__ import annotations

IDF_SOURCE = (
    "IDF (ICCV 2025, arXiv 2508.19649), its own retrainings, all images of the set; trained on Gaussian 15 only"
)
CBM3D_SOURCE = "issue 4 of github.com/cszn/DnCNN; DnCNN trained for that level"

PUBLISHED: dict[tuple[str, str, float], dict[str, float]] = {
    ("CBSD68", "gaussian", 15): {"CBM3D": 33.52, "DnCNN, one per level": 33.99},
    ("CBSD68", "gaussian", 25): {"CBM3D": 30.71, "DnCNN, one per level": 31.31},
    ("CBSD68", "gaussian", 50): {
        "CBM3D": 27.38,
        "DnCNN, one per level": 28.01,
        "DnCNN": 15.87,
        "SwinIR": 16.07,
        "Restormer": 20.15,
        "MaskedDenoising": 20.95,
        "IDF": 25.73,
    },
    ("CBSD68", "poisson", 3.5): {
        "DnCNN": 19.36,
        "SwinIR": 19.45,
        "Restormer": 22.23,
        "MaskedDenoising": 24.17,
        "IDF": 27.47,
    },
    ("CBSD68", "saltpepper", 0.02): {
        "DnCNN": 24.02,
        "SwinIR": 23.23,
        "Restormer": 23.60,
        "MaskedDenoising": 29.74,
        "IDF": 33.38,
    },
    ("CBSD68", "speckle", 0.04): {
        "DnCNN": 24.55,
        "SwinIR": 24.08,
        "Restormer": 25.16,
        "MaskedDenoising": 27.94,
        "IDF": 29.18,
    },
    ("Urban100", "gaussian", 50): {
        "DnCNN": 16.08,
        "SwinIR": 16.26,
        "Restormer": 19.69,
        "MaskedDenoising": 21.10,
        "IDF": 25.06,
    },
}
"""PSNR in dB by set, noise family and level. "CBM3D" and "DnCNN, one per level": :data:`CBM3D_SOURCE`; the others:
:data:`IDF_SOURCE`."""
