"""The hourly voltages of a meter's day, and how they change beside those of the area's gateway.

Voltages are kept in whole steps, so that sums are exact.
"""

from __future__ import annotations

import numpy as np

from models.state.cells import Array
from schemas.columns import Codes, Column, Mask
from schemas.units import HOUR_SECONDS

STEP_VOLTS = 0.02  # V
HIGHEST_STEPS = np.iinfo(np.uint16).max  # steps, 1310 V
LIVE_SHARE = 0.5  # of nominal; below it there is no supply to compare


def hourly_stride(interval: int) -> int:
    """The intervals from one kept voltage to the next: an hour's, or one."""
    return max(HOUR_SECONDS // interval, 1)


def hours_of(steps: int, interval: int) -> Codes:
    """The kept voltage with which the interval of each step ends, -1 for none."""
    after = np.arange(1, steps + 1)
    return np.where(
        after % hourly_stride(interval) == 0, after // hourly_stride(interval) - 1, -1
    )


def in_steps(volts: Column) -> Array:
    """Voltages in whole steps; 0 where there is none.

    >>> in_steps(np.array([220.1, np.nan, 1e4])).tolist()
    [11005, 0, 0]
    """
    steps = np.rint(volts / STEP_VOLTS)
    return np.where((steps > 0) & (steps <= HIGHEST_STEPS), steps, 0).astype(np.uint16)


def beside_gateway(
    volts: Array, gateway: Array, master: dict[str, Column], sizes: Codes
) -> dict[str, Column]:
    """The Days column of members, from (hours, members) and gateways' (3, hours, areas), in steps.

    An area has so many of the members, one area after another.
    """
    apart = np.full((3 * (len(volts) - 1), volts.shape[1]), np.nan, np.float32)
    first_gateway = _first_gateways(master, sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    compared = (first_gateway >= 0) & gateway.reshape(-1, len(sizes)).any(axis=0)
    rows = np.flatnonzero(compared[owner])
    if not len(rows):
        return {"voltage_apart": apart}

    here, beside = owner[rows], first_gateway[owner[rows]]
    un = master["un"] / STEP_VOLTS
    own_volts = volts[:, rows]
    own_live = own_volts > LIVE_SHARE * un[rows]
    own_live &= _comparable(master, rows, beside)
    gateway_live = gateway > LIVE_SHARE * un[first_gateway]
    gateway_changes = _hourly_changes(gateway, gateway_live, axis=1)

    # An hour counts if all three phases are known.
    steps = _hourly_changes(own_volts, own_live, axis=0) - gateway_changes[:, :, here]
    known_steps = np.where(np.isnan(steps).any(axis=0), np.nan, steps)
    apart[:, rows] = (np.float32(STEP_VOLTS) * known_steps).reshape(-1, len(rows))
    return {"voltage_apart": apart}


def _comparable(master: dict[str, Column], rows: Codes, beside: Codes) -> Mask:
    """True for users with phase voltages and the PT of the gateways beside them."""
    pt = master["ratio"] / master["ct"]
    return (
        (master["is_gateway"][rows] == 0)
        & (master["three_wire"][rows] == 0)
        & (pt[rows] == pt[beside])
    )


def _hourly_changes(volts: Array, live: Mask, axis: int) -> Array:
    """The change of each voltage from hour to hour, NaN beside an hour that is not live."""
    return np.diff(np.where(live, volts, np.float32(np.nan)), axis=axis)


def _first_gateways(master: dict[str, Column], sizes: Codes) -> Codes:
    """The first member of each area that is a gateway, -1 without one."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    gateways = np.flatnonzero(master["is_gateway"] == 1)
    first = np.full(len(sizes), -1)
    first[owner[gateways][::-1]] = gateways[::-1]
    return first
