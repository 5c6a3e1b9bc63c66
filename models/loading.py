"""What loads leave behind: days on which a contract was exceeded, and heat in a transformer."""

from __future__ import annotations

import numpy as np

from models.cells import Cells
from models.features import Columns, Feature
from models.turns import UniquePasses
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS


class Exceeding(Feature):
    """What share of its contract a customer's load reached on each of the last 30 days, in whole per cent."""

    reads: tuple[
        str, ...
    ] = ()  # a day of which nothing is known is one of the thirty too
    takes: tuple[str, ...] = (
        "kva_p99",
        "contract_kva",
        "suspended_kva",
        "at",
        "effective",
    )
    gives: tuple[str, ...] = ("share_fifth",)

    DAYS, SHARE_RANK = 30, 5
    LEAST_KVA = 1.0  # that a contract counts for where all is suspended

    def __init__(self) -> None:
        self.cells = Cells(
            shares=np.zeros(self.DAYS, np.uint8)
        )  # 0 where it is not known, 255 from 2.55 on

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds share_fifth, the fifth highest, -inf until five are known; NaN on a day unknown, or of a new file."""
        contract = np.maximum(
            columns["contract_kva"] - columns["suspended_kva"], self.LEAST_KVA
        )
        share = np.where(
            columns["effective"] > columns["at"] - DAY_SECONDS,
            np.nan,
            columns["kva_p99"] / contract,
        )
        known, held = ~np.isnan(share), self.cells["shares"][:, slots]
        rows = np.flatnonzero(
            known | held.any(axis=0)
        )  # what never was known does not change by a day more
        percent = np.where(
            known, np.minimum(np.floor(100 * np.nan_to_num(share)), 255), 0
        )[rows]
        shares = np.concatenate([held[1:, rows], percent[None].astype(np.uint8)])
        self.cells["shares"][:, slots[rows]] = shares
        fifth = np.full(len(slots), np.nan)
        percent = np.partition(shares[:, known[rows]], -self.SHARE_RANK, axis=0)[
            -self.SHARE_RANK
        ]
        fifth[known] = np.where(percent > 0, percent / 100, -np.inf)
        return {"share_fifth": fifth}


class Heat(Feature):
    """How warm a transformer is over its ambient, by IEC 60076-7 with its constants of distribution transformers, ONAN.

    It begins cold and cools without load where nothing is known, so that it is never warmer than the transformer.
    """

    relearns, distinct = 96, False
    reads: tuple[str, ...] = ("kva", "rating_kva")
    takes: tuple[str, ...] = ("at", "coverage", "temperature")
    gives: tuple[str, ...] = ("top_oil_rise", "hot_spot_rise", "heated_hours", "air")

    OIL_RISE, OIL_EXPONENT, LOSS_RATIO = (
        55.0,
        0.8,
        5.0,
    )  # K at rated load, x, and load losses over no-load losses
    WINDING_RISE, WINDING_EXPONENT = (
        23.0,
        1.6,
    )  # K of the hot spot over the top oil at rated load, y
    OIL_TIME, WINDING_TIME = (
        180 * 60,
        2.0 * 4 * 60,
    )  # seconds: k11 x tau_o with k11 = 1, k22 x tau_w; k21 = 1
    BRIDGED_SECONDS = 3600  # seconds without a load that the next one stands for: default of this project
    LEAST_COVERAGE = 0.9  # of the area's meters that must have been read
    FRESH_SECONDS = (
        6 * 3600
    )  # seconds for which a temperature of the air stands: default of this project

    def __init__(self, interval: int) -> None:
        self._interval, self._bridged = interval, max(self.BRIDGED_SECONDS, interval)
        self.cells = Cells(
            oil=np.float64(0),
            winding=np.float64(0),
            then=np.int64(0),
            since=np.int64(0),
            air=np.float64(0),
            felt=np.int64(0),
        )  # deg C, and when

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds top_oil_rise and hot_spot_rise in K, heated_hours, for how long the load has been known, and air.

        That is the temperature of the air in deg C, as last told within six hours, infinite where it was not.
        """
        c, at, turns = self.cells, columns["at"], UniquePasses(slots)
        warmth, felt = columns["temperature"], ~np.isnan(columns["temperature"])
        latest = np.where(felt, at, turns.earlier(at, c["felt"][slots], felt))
        air = np.where(felt, warmth, turns.earlier(warmth, c["air"][slots], felt))
        c["air"][slots[felt]], c["felt"][slots[felt]] = warmth[felt], at[felt]

        load = (columns["kva"] / columns["rating_kva"]).astype(np.float64)
        known = ~np.isnan(load) & (columns["coverage"] >= self.LEAST_COVERAGE)
        then = turns.earlier(at, c["then"][slots], known)
        gap = np.where(then > 0, at - then, self._interval)
        idle = np.where(gap <= self._bridged, 0, gap - self._interval)
        starts, begins = at - self._interval, (then <= 0) | (idle > 0)
        since = np.where(
            begins, starts, turns.earlier(starts, c["since"][slots], known & begins)
        )
        c["then"][slots[known]], c["since"][slots[known]] = at[known], since[known]

        rises = []
        cold, loaded = np.zeros(len(slots)), np.where(known, load, 0.0)
        ways = zip(
            self.course(cold, idle), self.course(loaded, gap - idle), strict=True
        )
        for name, (still, under_load) in zip(("oil", "winding"), ways, strict=True):
            way = (*still, *under_load, known)
            rises.append(_settled(turns.scan(c[name], _settled, *way), *way))
        oil, winding = rises
        told = (
            oil,
            oil + winding,
            (at - since) / 3600,
            np.where(at - latest <= self.FRESH_SECONDS, air, np.inf),
        )
        return {
            name: np.where(known, value, np.nan)
            for name, value in zip(self.gives, told, strict=True)
        }

    def course(
        self, load: Column, seconds: Column
    ) -> tuple[tuple[Column, Column], tuple[Column, Column]]:
        """Which rises oil and winding tend to under a load, and what share of the way is left after so many seconds.

        By the standard's difference equations, solved for a constant load.
        """
        seconds = np.maximum(seconds, 0)
        losses = (1 + load**2 * self.LOSS_RATIO) / (1 + self.LOSS_RATIO)
        to_oil, to_winding = (
            self.OIL_RISE * losses**self.OIL_EXPONENT,
            self.WINDING_RISE * load**self.WINDING_EXPONENT,
        )
        return (
            (to_oil, np.exp(-seconds / self.OIL_TIME)),
            (to_winding, np.exp(-seconds / self.WINDING_TIME)),
        )


def _settled(
    rise: Column,
    to_idle: Column,
    idle: Column,
    to_loaded: Column,
    loaded: Column,
    known: Mask,
) -> Column:
    """A rise after a time without load and one under load, of which both the end and the share left are given."""
    after = to_idle + (rise - to_idle) * idle
    return np.where(known, to_loaded + (after - to_loaded) * loaded, rise)
