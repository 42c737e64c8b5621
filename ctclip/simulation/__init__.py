"""Low dose from normal dose: realistic noise for real scans, so that every CT becomes a pair with a known partner."""

from ctclip.simulation.simulator import BATCH, DOMAINS, TEXTURES, NoiseSimulator, require_known

__all__ = ["BATCH", "DOMAINS", "TEXTURES", "NoiseSimulator", "require_known"]
