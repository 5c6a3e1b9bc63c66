"""When the use of a customer is known well enough to be compared with itself."""

from __future__ import annotations

from schemas.columns import Column, Mask


def established(known_days: Column, pv_kva: Column, history: float) -> Mask:
    """Whether enough days of a customer are known, and no generator is beside the load."""
    return (known_days >= history) & (pv_kva == 0)
