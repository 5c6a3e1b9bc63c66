"""How many rows a step judges: as many as take about STEP_SECONDS."""

from __future__ import annotations

from collections.abc import Mapping

# CPU seconds of a step, about: whatever waits for the engine waits for a few steps.
STEP_SECONDS = 0.1
INITIAL_PACE = 1_000.0  # rows a second of CPU, until a topic has been measured


class Paces:
    """Rows judged in a second of CPU lately, by topic: long histories of few meters go slowly."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self._known = dict(known)

    def by_topic(self) -> dict[str, float]:
        """The paces as they are now."""
        return dict(self._known)

    def step_rows(self, topic: str) -> int:
        """How many rows of a topic the next step judges."""
        return max(1, int(self._pace(topic) * STEP_SECONDS))

    def note_step(self, topic: str, rows: int, seconds: float) -> None:
        """Notes the CPU seconds of a step."""
        pace = rows / max(seconds, 1e-6)
        # A short step is slow for its overhead, and says nothing of the pace.
        if seconds > STEP_SECONDS / 4 or pace > self._pace(topic):
            self._known[topic] = pace

    def _pace(self, topic: str) -> float:
        return self._known.get(topic, INITIAL_PACE)
