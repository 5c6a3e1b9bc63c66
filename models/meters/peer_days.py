"""A customer's day beside the peers' days.

Peers are the users of the same area and segment on the same day, so that no partitioning can change
who they are.
"""

from __future__ import annotations

import numpy as np

from models.state.runs import crowded
from schemas.columns import Codes, Column

USE_CLASS_COUNT = 4  # residential to agricultural, the first of a row's segments
LEAST_PEERS = 5  # fewer peers do not show the weather


def use_class_bits(segments: Column) -> Codes:
    """The bits of the use class among the segments of each row."""
    all_classes = (1 << USE_CLASS_COUNT) - 1
    return np.asarray(segments.astype(np.int64) & all_classes)


def peer_groups(areas: Codes, segments: Column) -> Codes:
    """A number for the area and use class of each row."""
    area = areas.astype(np.int64)
    return np.asarray(area << USE_CLASS_COUNT | use_class_bits(segments))


def peer_median(areas: Codes, segments: Column, values: Column) -> Column:
    """The median of the peers' values; NaN where fewer than five have one."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < LEAST_PEERS:
        return np.full(len(values), np.nan)

    groups = peer_groups(areas, segments)
    distinct, places = np.unique(groups, return_inverse=True)
    medians = np.full(len(distinct), np.nan)
    for group, rows in crowded(groups[known], LEAST_PEERS):
        place = np.searchsorted(distinct, group)
        medians[place] = np.median(values[known[rows]])
    return medians[places]


def beyond_peers(values: Column, shared: Column) -> Column:
    """Values without the peers' share in the same direction, where there are enough peers."""
    lowest = np.minimum(values, 0)
    highest = np.maximum(values, 0)
    return values - np.clip(np.nan_to_num(shared), lowest, highest)
