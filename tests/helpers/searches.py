"""How widely a test searches where what it shows is not about the starts."""

from __future__ import annotations


def starts_for(kind: str) -> str:
    """Return `init`: the whole search for one covariance type, the cheap starts for the others."""
    return "auto" if kind == "full" else "k-means++"
