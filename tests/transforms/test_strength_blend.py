from __future__ import annotations

import pytest
import torch

from ctclip.errors import ConfigError
from ctclip.strength import STRENGTHS
from ctclip.transforms import BlendWithOriginald


@pytest.mark.parametrize(("strength", "share"), [(0, 0.0), ("medium", STRENGTHS["medium"]), ("0.25", 0.25), (1, 1.0)])
def test_the_share_of_the_result_is_the_strength(strength: str | float, share: float) -> None:
    data = {"pred": torch.full((1, 2, 2), 40.0), "original": torch.full((1, 2, 2), 100.0)}
    blended = BlendWithOriginald("pred", "original", strength)(data)
    torch.testing.assert_close(blended["pred"], torch.full((1, 2, 2), 100 - 60 * share))
    assert (blended["original"] == 100).all()


def test_an_unknown_strength_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="found 'much'"):
        BlendWithOriginald("pred", "original", "much")
