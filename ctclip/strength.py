"""How much of the noise goes: presets between the original and the network's full result."""

from __future__ import annotations

from ctclip.errors import ConfigError

STRENGTHS = {"low": 0.25, "medium": 0.37, "high": 0.8}
"""Share of the network's result. "medium" takes 30 to 50 % of the noise, as products in clinical use do, and is the
most that keeps the sharpness of a 300 HU edge within 5 % at a quarter of the dose; "high" has the best PSNR there, see
docs/results/ldct.md."""

DEFAULT_STRENGTH = "medium"


def find_strength(strength: str | float) -> float:
    """A strength by name or number.

    Args:
        strength: "low", "medium", "high", or a number from 0 (the input) to 1 (the network's result), also as text.

    Raises:
        ConfigError: for anything else.
    """
    try:
        number = STRENGTHS[strength] if isinstance(strength, str) and strength in STRENGTHS else float(strength)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise ConfigError(f"strength must be {', '.join(STRENGTHS)} or a number from 0 to 1, found {strength!r}")
    return abs(number)  # -0 is in range too, and would show in descriptions and UIDs
