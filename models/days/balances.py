"""The energy in and out of each area's day, how much of it was read, and how sure it is.

The unread energy of a meter is likely as much as its mean makes it, and anything up to twice as
much is possible; that of a meter of which less than half was read is as much as its contract's
share of the area makes likely. Registers are right to their last digit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.days.area_sums import whole
from models.state.missing_values import zeroed
from models.state.runs import float_sums, numbered, whole_sums
from schemas.columns import Codes, Column, Mask, Times

LAST_DIGIT = 0.01  # kWh that a register shows, secondary
LEAST_COVERAGE = 0.5  # of a day that was read; below it a meter's mean says nothing
MICRO_KWH = 1e6  # in a kWh, so that sums are exact
BALANCE_COLUMNS = (
    "energy_in",
    "energy_out",
    "unread_in",
    "unread_out",
    "doubt",
    "coverage",
)


class _AreaEnergy(NamedTuple):
    """Masks of members, and sums over their areas."""

    users: Mask
    gateways: Mask
    sizes: Codes

    def both(self, values: Codes) -> tuple[Codes, Codes]:
        """The sums of whole numbers over each area's gateways, and over its users."""
        of_gateways = whole_sums(values * self.gateways, self.sizes)
        of_users = whole_sums(values * self.users, self.sizes)
        return of_gateways, of_users

    def mean(self, values: Column, mask: Mask) -> Column:
        """The mean over the members of a mask in each area; 0 without any."""
        counts = whole_sums(mask, self.sizes)
        sums = float_sums(values[mask], counts)
        return sums / np.maximum(counts, 1)


def balances(
    days: dict[str, Column],
    master: dict[str, Column],
    returned: Times,
    present: Mask,
    sizes: Codes,
) -> dict[str, Column]:
    """Energy in and out, likely unread energy in and out, its deviation, and coverage, by area.

    Primary kWh; NaN without a gateway. The deviation is three standard deviations, the coverage the
    lesser one of gateways and users.
    """
    ratio = zeroed(master["ratio"])
    gateway = master["is_gateway"] == 1
    area = _AreaEnergy(present & ~gateway, present & gateway, sizes)
    known_users = area.users & ~np.isnan(master["ratio"])
    known = whole_sums(area.gateways, sizes) > 0
    known &= whole_sums(known_users, sizes) > 0
    if not known.any():
        return dict.fromkeys(BALANCE_COLUMNS, np.full(len(sizes), np.nan))

    micro = whole(zeroed(days["kwh"]) * ratio * MICRO_KWH)
    energy_in, energy_out = area.both(micro)
    sent, given = area.both(whole(returned * ratio))
    unread = _unread_energy(days, master["contract_kva"], micro, energy_out, area)
    unread_in, unread_out = area.both(unread)
    coverage = np.minimum(
        area.mean(days["coverage"], area.gateways),
        area.mean(days["coverage"], area.users),
    )
    values = {
        "energy_in": (energy_in - sent + given) / MICRO_KWH,
        "energy_out": energy_out / MICRO_KWH,
        "unread_in": unread_in / MICRO_KWH,
        "unread_out": unread_out / MICRO_KWH,
        "doubt": _three_deviations(unread, ratio, present, sizes),
        "coverage": coverage,
    }
    return {name: np.where(known, column, np.nan) for name, column in values.items()}


def _three_deviations(
    unread: Codes,
    ratio: Column,
    present: Mask,
    sizes: Codes,
) -> Column:
    """The kWh by which each area's energy may be off, from unread energy and last digits."""
    last_digits = LAST_DIGIT * ratio * 1e3
    watt_hours = whole(np.hypot(unread / 1e3, last_digits))
    squares = np.square(watt_hours * present)
    return np.sqrt(3 * whole_sums(squares, sizes)) / 1e3


def _unread_energy(
    days: dict[str, Column],
    contract: Column,
    micro: Codes,
    energy_out: Codes,
    area: _AreaEnergy,
) -> Codes:
    """The energy of each member, 1e-6 kWh primary, that was likely not read."""
    read = np.logical_not(np.isnan(days["kwh"]))
    coverage = np.maximum(days["coverage"], LEAST_COVERAGE)
    missing_share = 1 / coverage - 1
    unread = whole(np.where(read, micro * missing_share, 0))
    unread_users = area.users & ~read
    if unread_users.any():
        likely = _likely_use(contract, area.users, read, energy_out, area.sizes)
        unread[unread_users] = likely[unread_users]
    return unread


def _likely_use(
    contract: Column,
    users: Mask,
    read: Mask,
    energy_out: Codes,
    sizes: Codes,
) -> Codes:
    """The likely use of each user, by its contract's share of the area; 0 if no user was read."""
    shares = _contract_shares(contract, users, sizes)
    weights = whole(shares * 1000)
    weight_read = whole_sums(weights * (users & read), sizes)
    any_read = weight_read != 0
    per_weight = energy_out / np.where(any_read, weight_read, 1)
    per_weight[~any_read] = 0.0
    return whole(weights * np.repeat(per_weight, sizes))


def _contract_shares(contract: Column, users: Mask, sizes: Codes) -> Column:
    """Users' contracts, or the area's mean contract, in proportion to their likely energy."""
    known = users & (contract > 0)
    counts = whole_sums(known, sizes)
    sums = float_sums(contract[known], counts)
    means = sums / np.maximum(counts, 1)
    mean = np.where(counts > 0, means, 1.0)
    return np.where(known, contract, np.repeat(mean, sizes))


def read_shares(reads: Column, expected: Column, sizes: Codes) -> tuple[Column, Column]:
    """The share of due readings read in each area's day: of all meters, of all but the worst."""
    read = np.minimum(reads, expected)
    missing = expected - read
    by_missing = np.lexsort((expected, missing, numbered(sizes)))
    last = np.cumsum(sizes)[sizes > 0] - 1
    others = np.ones(len(read), bool)
    others[by_missing[last]] = False
    other_sizes = np.maximum(sizes - 1, 0)
    of_others = _share(read[others], expected[others], other_sizes)
    return _share(read, expected, sizes), of_others


def _share(read: Column, due: Column, sizes: Codes) -> Column:
    """The share of due readings that each area has; NaN if none were due."""
    all_due = float_sums(due, sizes)
    any_due = all_due > 0
    share = float_sums(read, sizes) / np.where(any_due, all_due, 1)
    return np.where(any_due, share, np.nan)
