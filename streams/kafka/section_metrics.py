"""The business figures of sections, summed over the partitions of a worker."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge

from detectors.section_counts import SECTION_MEASURES
from detectors.section_figures import SectionFigures


class SectionMetrics:
    """Counters of SECTION_MEASURES, and gauges of what is there, by section."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            label_names = ["section", *labels]
            return Gauge(
                f"meterwatch_section_{name}", text, label_names, registry=registry
            )

        self._sums = {
            measure: Counter(
                f"meterwatch_section_{measure}", text, ["section"], registry=registry
            )
            for measure, text in SECTION_MEASURES.items()
        }
        self._areas = gauge("areas", "Areas that the registry has.")
        self._meters = gauge("meters", "Meters that the registry has.")
        self._open = gauge(
            "open_alerts", "Open alerts that nothing suppresses.", "family"
        )
        self._figures: dict[int, SectionFigures] = {}  # by partition
        self._known: set[str] = set()
        self._open_labels: set[tuple[str, str]] = set()

    def note(
        self,
        number: int,
        figures: SectionFigures,
        counted: dict[tuple[str, str], float],
    ) -> None:
        """Adds the sums of an engine beyond those counted, which it brings up to date, and notes what is there."""
        self._figures[number] = figures
        for section in figures.areas:
            for counter in self._sums.values():
                counter.labels(section)  # begins at 0

        for (measure, section), total in figures.sums.items():
            added = total - counted.get((measure, section), 0.0)
            if added > 0:  # figures may be overtaken by later ones
                self._sums[measure].labels(section).inc(added)
                counted[measure, section] = total
        self._show()

    def forget(self, number: int) -> None:
        """Forgets a partition that was handed over."""
        if self._figures.pop(number, None):
            self._show()

    def _show(self) -> None:
        """Sets the gauges to the sums over the partitions."""
        areas: Tally[str] = Tally()
        meters: Tally[str] = Tally()
        opened: Tally[tuple[str, str]] = Tally()
        for figures in self._figures.values():
            areas += figures.areas
            meters += figures.meters
            opened += figures.open_alerts

        self._known |= areas.keys()
        for section in self._known:
            self._areas.labels(section).set(areas[section])
            self._meters.labels(section).set(meters[section])
        self._open_labels |= opened.keys()
        for section, family in self._open_labels:
            self._open.labels(section, family).set(opened[section, family])
