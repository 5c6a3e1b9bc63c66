"""Customers whom a fault may befall."""

from __future__ import annotations

from replay.simulation.network import (
    COMMERCIAL_SEGMENT,
    INDUSTRIAL_SEGMENT,
    RESIDENTIAL_SEGMENT,
    Grid,
)
from schemas.columns import Mask


def through_ct(grid: Grid) -> Mask:
    """Users behind current transformers."""
    return grid.three & (grid.ratio > 1)


def home(grid: Grid) -> Mask:
    """Homes without a roof of their own, that use something."""
    return (
        (grid.segment == RESIDENTIAL_SEGMENT)
        & (grid.pv_kw == 0)
        & (grid.mean_kw > 0.25)
    )


def direct(grid: Grid) -> Mask:
    """Users whose three phases go through the meter."""
    return grid.three & (grid.ratio == 1)


def shop(grid: Grid) -> Mask:
    """Shops on one phase."""
    is_business = grid.segment == COMMERCIAL_SEGMENT
    return is_business & ~grid.three & (grid.mean_kw > 0.6)


def office(grid: Grid) -> Mask:
    """Shops and offices behind current transformers."""
    return (grid.segment == COMMERCIAL_SEGMENT) & through_ct(grid)


def works(grid: Grid) -> Mask:
    """Factories, each behind its own transformer."""
    return (grid.segment == INDUSTRIAL_SEGMENT) & through_ct(grid)


def distant(grid: Grid) -> Mask:
    """Homes with a service line that is long for their load."""
    return home(grid) & (grid.mean_kw * grid.service_ohm > 0.03)


def business(grid: Grid) -> Mask:
    """Shops and offices behind current transformers, or with a meter of three phases."""
    return (grid.segment == COMMERCIAL_SEGMENT) & grid.three


def middling(grid: Grid) -> Mask:
    """Homes of usual load, without a roof."""
    return (
        (grid.segment == RESIDENTIAL_SEGMENT)
        & (grid.pv_kw == 0)
        & (grid.mean_kw > 0.3)
        & (grid.mean_kw < 0.4)
    )
