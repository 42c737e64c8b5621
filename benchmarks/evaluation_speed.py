"""How long the measures of ``ctclip evaluate`` take, besides the denoising itself.

    python benchmarks/evaluation_speed.py

100 slices of 512x512 of the body phantom, all measures in two windows and the published convention; and the phantom
bench of one method. Prints seconds.
"""

from __future__ import annotations

import time

import numpy as np

from ctclip.evaluation.bench import run_bench
from ctclip.evaluation.measures import measure_slices
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.units import MODEL_HU_WINDOW, SOFT_TISSUE_HU_WINDOW

SLICES, SIZE = 100, 512
NOISE_HU = 25.0


def main() -> None:
    """Measure and print."""
    full = low_dose(np.repeat(body_phantom_hu(10, SIZE), SLICES // 10, axis=0), 10)
    low = low_dose(full, NOISE_HU, seed=1)
    start = time.perf_counter()
    measure_slices((low + full) / 2, low, full, [SOFT_TISSUE_HU_WINDOW, MODEL_HU_WINDOW], legacy=True)
    print(f"measures of {SLICES} slices of {SIZE}x{SIZE}: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    run_bench(lambda volume_hu, progress=None: volume_hu, NOISE_HU)
    print(f"phantom bench without denoising: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
