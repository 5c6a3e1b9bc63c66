"""The test of Page and Hinkley, one error after another."""

from __future__ import annotations


class RisingMean:
    """Finds a mean that rises by more than a tolerance, where one error counts for so much above it at most."""

    def __init__(self, tolerance: float, most: float, limit: float) -> None:
        self.tolerance = tolerance
        self.most = most
        self.limit = limit
        self.count = 0
        self.mean = self.above = self.lowest = 0.0

    def rises(self, error: float) -> bool:
        """Take an error; true if the mean has risen."""
        self.count += 1
        excess = error - self.mean
        if self.count > 1:
            excess = min(excess, self.most)
        self.mean += excess / self.count
        self.above += excess * (1 - 1 / self.count) - self.tolerance
        self.lowest = min(self.lowest, self.above)
        return self.above - self.lowest > self.limit
