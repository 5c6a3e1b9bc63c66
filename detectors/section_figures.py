"""What an engine has of each section, for the metrics of a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.master.registry import Registry


class SectionFigures(NamedTuple):
    """Counts by the label of a section; how many labels there are is bounded."""

    areas: Counter[str]
    meters: Counter[str]
    open_alerts: Counter[tuple[str, str]]  # shown, by section and family of rules
    sums: dict[
        tuple[str, str], float
    ]  # by measure and section, since the engine was made


def section_figures_of(engine: Engine) -> SectionFigures:
    """The figures of an engine, which another thread may run meanwhile.

    The cost goes with the areas that have open alerts: this is no call for an event loop.
    """
    registry, label = engine.registry, engine.sections.label
    areas = _labelled(registry.section_areas, label)
    meters = _labelled(registry.section_meters, label)

    opened: Counter[tuple[str, str]] = Counter()
    for (name, rule), alerts in dict(engine.policy.open.areas).items():
        section = label(_section_of(registry, name))
        opened[section, ALL_RULES[rule].family] += alerts
    return SectionFigures(areas, meters, opened, dict(engine.sections.sums))


def _labelled(by_section: Counter[str], label: Callable[[str], str]) -> Counter[str]:
    """The counts that are not 0, by the labels of their sections."""
    counts: Counter[str] = Counter()
    for section, count in Counter(by_section).items():
        if count:
            counts[label(section)] += count
    return counts


def _section_of(registry: Registry, area: str) -> str:
    """The section of an alert's area, "" if it has none; an alert on work names its section as its area."""
    known = registry.areas.get(area)
    if known:
        return known.section
    return area if registry.section_areas[area] else ""
