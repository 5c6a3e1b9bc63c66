"""The gauges of the partitions that a worker holds; they disappear when a partition is handed over."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from detectors.figures import EngineFigures
from schemas.rules import Rulebook, digest_of
from streams.kafka import labels

LAG_SECONDS = 30.0  # after which a lag that is not measured again counts as unknown


class PartitionGauges:
    """Lag, checkpoints and content of each partition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._by_partition: list[Gauge] = []

        def gauge(name: str, text: str) -> Gauge:
            made = Gauge(f"meterwatch_{name}", text, ["partition"], registry=registry)
            self._by_partition.append(made)
            return made

        def topic_gauge(name: str, text: str) -> Gauge:
            label_names = ["topic", "partition"]
            return Gauge(f"meterwatch_{name}", text, label_names, registry=registry)

        self._lag = topic_gauge(
            "lag_records", "Records not judged yet, NaN if unknown."
        )
        self._lag_seconds = topic_gauge(
            "lag_seconds",
            "Since the oldest record that is not judged yet came, NaN if unknown.",
        )
        self._lag_time = gauge(
            "lag_time_seconds", "Unix time at which the lag was measured."
        )
        self._judged_until = gauge(
            "judged_until_time_seconds",
            "Event time, in Unix seconds, up to which half of the areas have come.",
        )

        self._checkpoint_time = gauge(
            "checkpoint_time_seconds", "Unix time of the last checkpoint."
        )
        self._checkpoint_age = gauge(
            "checkpoint_age_seconds", "Since the last checkpoint was taken."
        )
        self._checkpoint_bytes = gauge(
            "checkpoint_bytes", "State in the last checkpoint."
        )
        self._unsaved = gauge(
            "unsaved", "1 if something was judged that is in no checkpoint yet, else 0."
        )

        self._meters = gauge("meters", "Meters held.")
        self._unknown_meters = gauge(
            "unknown_meters", "Meters held that no record of the registry has."
        )
        self._silent_meters = gauge(
            "silent_meters",
            "Meters held that had no reading on the last closed day of their area.",
        )
        self._drifted = Gauge(
            "meterwatch_drifted",
            "Subjects that a model learns anew since its error drifted.",
            ["partition", "model"],
            registry=registry,
        )
        self._rulebook = Gauge(
            "meterwatch_rulebook_info",
            "1 for the rulebook in force, by the first digits of its SHA-256.",
            ["partition", "digest"],
            registry=registry,
        )
        # By partition, the rulebook shown and its digest.
        self._rulebooks: dict[int, Rulebook] = {}
        self._digests: dict[int, str] = {}

    def measured(
        self, number: int, lags: Mapping[str, int], oldest: Mapping[str, float]
    ) -> None:
        """Notes how many records of each topic wait now, and when the oldest of them came, Unix seconds.

        A scrape finds NaN once this is LAG_SECONDS old.
        """
        until = time.monotonic() + LAG_SECONDS
        for topic, records in lags.items():
            lag = self._lag.labels(topic, str(number))
            lag.set_function(partial(_unless_old, until, partial(float, records)))

            came = oldest.get(topic)
            age = partial(_since, came) if came else partial(float, 0)
            seconds = self._lag_seconds.labels(topic, str(number))
            seconds.set_function(partial(_unless_old, until, age))
        self._lag_time.labels(str(number)).set_to_current_time()

    def saved(self, number: int, taken: float, size: int, *, has_unsaved: bool) -> None:
        """Notes when the last checkpoint was taken, in Unix seconds, its bytes, and whether there is more to save."""
        self._checkpoint_bytes.labels(str(number)).set(size)
        self._unsaved.labels(str(number)).set(int(has_unsaved))
        if taken:
            self._checkpoint_time.labels(str(number)).set(taken)
            age = self._checkpoint_age.labels(str(number))
            age.set_function(partial(_since, taken))

    def contains(self, number: int, figures: EngineFigures, unknown: int) -> None:
        """Notes what a partition has, and how many of its meters no record of the registry has."""
        self._meters.labels(str(number)).set(figures.meters)
        self._unknown_meters.labels(str(number)).set(unknown)
        self._silent_meters.labels(str(number)).set(figures.silent_meters)
        if figures.judged_until:
            self._judged_until.labels(str(number)).set(figures.judged_until)

    def drifted(self, number: int, model: str, subjects: int) -> None:
        """Notes of how many subjects a model learns anew."""
        self._drifted.labels(str(number), model).set(subjects)

    def in_force(self, number: int, rulebook: Rulebook) -> None:
        """Notes the rulebook of a partition; works its digest out when it is another."""
        if self._rulebooks.get(number) is rulebook:
            return
        self._rulebooks[number] = rulebook
        if number in self._digests:
            _drop(self._rulebook, str(number), self._digests[number])
        self._digests[number] = digest_of(rulebook)
        self._rulebook.labels(str(number), self._digests[number]).set(1)

    def forget(self, topics: Iterable[str], number: int) -> None:
        """Removes the gauges of a partition that was handed over."""
        for topic in topics:
            _drop(self._lag, topic, str(number))
            _drop(self._lag_seconds, topic, str(number))
        for gauge in self._by_partition:
            _drop(gauge, str(number))
        for model in labels.models():
            _drop(self._drifted, str(number), model)
        if number in self._digests:
            _drop(self._rulebook, str(number), self._digests.pop(number))
            del self._rulebooks[number]


def _unless_old(until: float, value: partial[float]) -> float:
    return value() if time.monotonic() < until else math.nan


def _since(taken: float) -> float:
    return max(0.0, time.time() - taken)


def _drop(gauge: Gauge, *label_values: str) -> None:
    try:
        gauge.remove(*label_values)
    except KeyError:
        return
