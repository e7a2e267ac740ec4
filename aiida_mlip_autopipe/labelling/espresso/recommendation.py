"""What the profile recommends for an input."""

from __future__ import annotations

__all__ = ['Recommendation']


class Recommendation(dict[str, tuple[float, float]]):
    """What the profile recommends: element -> cutoffs (wavefunctions, density), in Ry; and what its pw.x is.

    Attributes
    ----------
    pw_version : str or None
        As '6.7'; None if the profile does not know it.
    """

    pw_version: str | None = None
