"""What an engine has of each section, for the metrics of a worker."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from detectors.section_counts import NO_SECTION


class SectionFigures(NamedTuple):
    """Counts by section."""

    areas: Counter[str]
    meters: Counter[str]
    open_alerts: Counter[tuple[str, str]]  # shown, by section and family of rules
    sums: dict[
        tuple[str, str], float
    ]  # by measure and section, since the engine was made


def section_figures_of(engine: Engine) -> SectionFigures:
    """The figures of an engine; another thread may run it meanwhile."""
    areas = _named(engine.registry.section_areas)
    meters = _named(engine.registry.section_meters)
    opened: Counter[tuple[str, str]] = Counter()
    for (name, rule), alerts in dict(engine.policy.open.areas).items():
        section = _section_of(engine, name, areas)
        opened[section, ALL_RULES[rule].family] += alerts
    return SectionFigures(areas, meters, opened, dict(engine.section_sums))


def _named(by_section: Counter[str]) -> Counter[str]:
    """Counts by section that are not 0; those without a section under NO_SECTION."""
    counts = Counter(by_section)
    counts[NO_SECTION] += counts.pop("", 0)
    return +counts


def _section_of(engine: Engine, area: str, sections: Counter[str]) -> str:
    """The section of an alert's area; an alert on work names its section as its area."""
    known = engine.registry.areas.get(area)
    if known:
        return known.section or NO_SECTION
    return area if area in sections else NO_SECTION
