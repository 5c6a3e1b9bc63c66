"""The hourly voltages of a meter's day, and how they change beside those of the area's gateway.

Voltages are kept in whole steps, so that sums are exact.
"""

from __future__ import annotations

import numpy as np

from models.days.facts import Facts, Targets
from models.state.cells import Array
from models.state.runs import numbered
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
    stride = hourly_stride(interval)
    after = 1 + np.arange(steps)
    ends_hour = after % stride == 0
    hours = after // stride - 1
    return np.where(ends_hour, hours, -1)


def voltage_cells(steps: int, interval: int) -> Array:
    """The empty cells of a phase's day, in steps of voltage; 0 is unknown."""
    hours = int(hours_of(steps, interval).max()) + 1
    return np.zeros(max(hours, 2), np.uint16)


class HourlyVoltages:
    """Keeps the highest voltage of each hour's last interval: phase A's, all of the gateway."""

    def __init__(self, steps: int, interval: int) -> None:
        self._hour_of_step = hours_of(steps, interval)

    def keep(
        self,
        members: Array,
        gateways: Array,
        targets: Targets,
        facts: Facts,
    ) -> None:
        """Keeps the voltages of rows in the cells of their members and of their areas."""
        hours = self._hour_of_step[targets.steps]
        sound = ~facts.stale[targets.rows]
        kept = np.flatnonzero((hours >= 0) & sound)
        if not kept.size:
            return

        rows = targets.rows[kept]
        hours = hours[kept]
        volts = in_steps(facts.volts[:, rows])
        _keep_highest(members, hours, targets.members[kept], volts[0])
        gateway = facts.gateway[rows]
        if gateway.any():
            slots = targets.sums_slots[kept][gateway]
            _keep_highest(gateways, hours[gateway], slots, volts[:, gateway])


def _keep_highest(highest: Array, hours: Codes, where: Codes, volts: Array) -> None:
    """Keeps the highest voltage of each hour in the cells of a day."""
    kept = highest[..., hours, where]
    highest[..., hours, where] = np.maximum(kept, volts)


def in_steps(volts: Column) -> Array:
    """Voltages in whole steps; 0 where there is none.

    >>> in_steps(np.array([220.1, np.nan, 1e4])).tolist()
    [11005, 0, 0]
    """
    steps = np.rint(volts / STEP_VOLTS)
    known = (steps > 0) & (steps <= HIGHEST_STEPS)
    return np.where(known, steps, 0).astype(np.uint16)


def beside_gateway(
    volts: Array,
    gateway: Array,
    master: dict[str, Column],
    sizes: Codes,
) -> dict[str, Column]:
    """The Days column of members, from (hours, members) and gateways' (3, hours, areas), in steps.

    An area has so many of the members, one area after another.
    """
    shape = 3 * (len(volts) - 1), volts.shape[1]
    apart = np.full(shape, np.nan, np.float32)
    first_gateway = _first_gateways(master, sizes)
    compared = (first_gateway >= 0) & gateway.any(axis=(0, 1))
    owner = numbered(sizes)
    rows = np.flatnonzero(compared[owner])
    if not len(rows):
        return {"voltage_apart": apart}

    live_steps = LIVE_SHARE * (master["un"] / STEP_VOLTS)
    areas = owner[rows]
    comparable = _comparable(master, rows, first_gateway[areas])
    own_changes = _hourly_changes(volts[:, rows], live_steps[rows], comparable)
    gateway_changes = _hourly_changes(gateway, live_steps[first_gateway])
    steps = own_changes - gateway_changes[:, :, areas]

    # An hour counts if all three phases are known.
    unknown = np.isnan(steps).any(axis=0)
    known_steps = np.where(unknown, np.float32(np.nan), steps)
    volts_apart = np.float32(STEP_VOLTS) * known_steps
    apart[:, rows] = volts_apart.reshape(-1, len(rows))
    return {"voltage_apart": apart}


def _comparable(master: dict[str, Column], rows: Codes, beside: Codes) -> Mask:
    """True for users with phase voltages and the PT of the gateways beside them."""
    transformer_ratio = master["ratio"] / master["ct"]
    comparable = transformer_ratio[rows] == transformer_ratio[beside]
    comparable &= master["is_gateway"][rows] == 0
    comparable &= master["three_wire"][rows] == 0
    return comparable


def _hourly_changes(
    volts: Array,
    live_steps: Column,
    counted: Mask | bool = True,
) -> Array:
    """The change of voltages (..., hours, rows) from hour to hour, in steps.

    NaN beside an hour without supply, and for rows that are not counted.
    """
    known = (volts > live_steps) & counted
    steps = np.where(known, volts, np.float32(np.nan))
    return np.diff(steps, axis=-2)


def _first_gateways(master: dict[str, Column], sizes: Codes) -> Codes:
    """The first member of each area that is a gateway, -1 without one."""
    owner = numbered(sizes)
    gateways = np.flatnonzero(master["is_gateway"] == 1)
    areas, firsts = np.unique(owner[gateways], return_index=True)
    first = np.full(len(sizes), -1)
    first[areas] = gateways[firsts]
    return first
