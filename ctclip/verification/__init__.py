"""Does a derived series keep the rules of docs/usage.md, and does it fit its source?"""

from ctclip.verification.checks import Finding
from ctclip.verification.series import check_against, check_series

__all__ = ["Finding", "check_against", "check_series"]
