"""Judges the rows of one kind: features, then every rule, then its episodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detectors.episodes import Episodes
from detectors.rule import Rule, sentence
from models.cells import Array, Cells
from models.features import Columns, Feature
from models.index import Index
from models.state import Owner, Schema, State, within
from models.turns import unique_passes
from schemas.alert import Alert, Change, alert_id
from schemas.columns import PHASE_NAMES, Batch, Codes, Column, Mask, Status, Times
from schemas.events import IEC_CODES
from schemas.units import HOUR_SECONDS

Missing = Mapping[
    str, Mask | None
]  # which rows of a column are NaN; None where none is
Enrich = Callable[[Codes, Any], Columns]
EvidenceOf = Callable[[int, int], dict[str, float]]
NEW_CUSTOMER_TEXT = (
    "[ The customer was connected {installed_days:.0f} days ago.]",
    "[该用户{installed_days:.0f}天前新装。]",
)
WEEK_TEXT = (
    "[ It was so for {week_hours:.1f} hours of the last seven days.]",
    "[近七天累计{week_hours:.1f}小时。]",
)
SubjectState = list[tuple[dict[str, Array], dict[int, Alert]]]


class Trouble(NamedTuple):
    """What raises or escalates an episode: since when, how severe, on which row and phase, at which score."""

    since: int
    severity: int
    row: int
    phase: int
    score: float
    week_s: int = 0  # seconds of trouble in the last seven days, of a chronic state


class Relearning(Owner):
    """Subjects of which features that started afresh cannot tell yet, though their rules knew them before."""

    missed = False

    def __init__(self) -> None:
        self.cells = Cells(rows=np.uint8(0))  # that are to come before they can
        self.features: list[str] = []

    def start(self, features: Iterable[Feature]) -> None:
        """Let all subjects wait for some features."""
        for feature in features:
            self.features = sorted({*self.features, type(feature).__name__})
            self.cells["rows"][:] = np.maximum(self.cells["rows"], feature.relearns)

    def hide(self, feature: Feature, slots: Codes, columns: Columns) -> Columns:
        """What a feature gives, NaN for subjects that wait for it."""
        if type(feature).__name__ not in self.features:
            return columns
        waits = self.cells["rows"][slots] > 0
        return {
            name: np.where(waits, np.nan, column) for name, column in columns.items()
        }

    def count_rows(self, slots: Codes) -> None:
        """Count rows of some subjects."""
        if self.features:
            rows, (places, times) = (
                self.cells["rows"],
                np.unique(slots, return_counts=True),
            )
            rows[places] -= np.minimum(rows[places], times).astype(np.uint8)
            self.features = self.features if rows.any() else []

    def schema(self) -> Schema:
        """How many rows of each subject are to come, and the features."""
        return {**self.cells.schema(), "features": list[str]}

    def state(self) -> State:
        """Everything remembered."""
        return {**self.cells.state(), "features": self.features}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave."""
        self.cells.load(state)
        self.features = state.get("features", [])


class Judge:
    """The features and rules of one kind, with all they remember."""

    def __init__(
        self,
        kind: type[Batch],
        rules: Iterable[Rule],
        features: Sequence[Feature],
        index: Index,
        enrich: Enrich,
        subject_evidence: EvidenceOf | None = None,
    ) -> None:
        self.kind, self.features, self.index, self.enrich, self._known_evidence = (
            kind,
            features,
            index,
            enrich,
            subject_evidence,
        )
        self._tracked = Cells(rules=np.uint8(0))  # how many have trouble to remember
        self._relearning = Relearning()
        self.feature_columns: Columns = {}  # by the features, in the last fold
        self.episodes: list[Episodes] = []
        self.adopt(rules)

    def adopt(self, rules: Iterable[Rule]) -> list[Episodes]:
        """Judge by these rules, those of the own kind; what is remembered of rules that are gone or told otherwise."""
        self.rules = [rule for rule in rules if rule.kind is self.kind]
        self.reads = sorted({name for rule in self.rules for name in rule.reads})
        self.segmented = any(rule.tables for rule in self.rules)
        known = {episodes.rule.name: episodes for episodes in self.episodes}
        self.episodes = []
        for rule in self.rules:
            kept = known.get(rule.name)
            if kept and (kept.rule.levels, kept.rule.status) == (
                rule.levels,
                rule.status,
            ):
                del known[rule.name]
                kept.rule = rule
            else:
                kept = Episodes(rule, self._tracked)
            self.episodes.append(kept)
        for episodes in known.values():
            episodes.clear(episodes.slots)
        return list(known.values())

    def reserve(self) -> None:
        """Make room for every slot of the index."""
        for cells in (self._tracked, *self._subject_cells()):
            cells.reserve(len(self.index))

    def _subject_cells(self) -> list[Cells]:
        """What is remembered of every subject, watched or not."""
        return [*(feature.cells for feature in self.features), self._relearning.cells]

    def judge(
        self,
        batch: Batch,
        slots: Codes,
        more: Columns | None = None,
        passes: list[Codes] | None = None,
    ) -> list[Alert]:
        """Judge a batch; rows of a slot count in order of arrival. `more` are columns beside the batch's own.

        Where turns are given, rows count turn by turn, and alerts are told in order of time.
        """
        if not len(slots):
            return []
        self.reserve()
        columns: Columns = {
            f.name: getattr(batch, f.name)
            for f in fields(batch)
            if f.name not in batch.shared
        }
        columns |= self.enrich(slots, batch) if more is None else more
        if self.segmented and "segments" in columns:
            columns["segments"] = columns["segments"].astype(np.intp)
        alerts: list[Alert] = []
        ordered, passes = bool(passes), passes or list(unique_passes(slots))
        watched = np.flatnonzero(self._tracked["rules"][slots])
        with np.errstate(invalid="ignore", divide="ignore"):
            for feature in self.features:
                if any(_is_empty(columns[name]) for name in feature.reads):
                    columns |= dict.fromkeys(
                        feature.gives, np.broadcast_to(np.nan, len(slots))
                    )
                else:
                    columns |= self._relearning.hide(
                        feature,
                        slots,
                        feature_columns_of(feature, slots, columns, passes),
                    )
            self._relearning.count_rows(slots)
            self.feature_columns = {
                name: columns[name]
                for feature in self.features
                for name in feature.gives
            }
            gone = {name: _missing(columns[name]) for name in self.reads}
            blank = {
                name for name, mask in gone.items() if mask is not None and mask.all()
            }
            for episodes in self.episodes:
                if blank.isdisjoint(episodes.rule.reads):
                    alerts += self.judge_rule(
                        episodes,
                        batch.at,
                        columns,
                        gone,
                        slots,
                        watched,
                        distinct=len(passes) == 1,
                    )
        return sorted(alerts, key=attrgetter("at")) if ordered else alerts

    def judge_rule(
        self,
        episodes: Episodes,
        at: Times,
        columns: Columns,
        missing: Missing,
        slots: Codes,
        tracked: Codes,
        *,
        distinct: bool,
    ) -> Iterator[Alert]:
        """Judge rows by one rule; `watched` are the rows of slots that any rule watches."""
        scores = episodes.rule.score(columns, missing)
        mine = (
            tracked[episodes.positions(slots[tracked])[1]] if len(tracked) else tracked
        )
        rows = _rows_to_judge(
            scores >= episodes.rule.levels[0].score, mine, slots, distinct=distinct
        )
        if not len(rows):
            return
        worst = scores[..., rows]
        if worst.ndim == 2:
            worst = _worst_of(worst, episodes.rule.clear, columns["elements"][rows])
        if (blind := np.isnan(worst)).any():
            rows, worst = rows[~blind], worst[~blind]
        gap = columns["gap"][rows] if "gap" in columns else None
        for change in episodes.update(rows, slots[rows], at[rows], worst, gap):
            row, slot = change.row, int(slots[change.row])
            if not change.severity:
                yield self._cleared(
                    episodes, slot, int(at[row]), disproved=change.disproved
                )
                continue
            score = scores[..., row]
            phase = int(np.nanargmax(score)) if score.ndim else -1
            worth = float(score[phase] if score.ndim else score)
            found = Trouble(
                change.since, change.severity, row, phase, worth, change.week_s
            )
            yield self._raised(episodes, slot, found, columns)

    def _cleared(
        self, episodes: Episodes, slot: int, at: int, *, disproved: bool
    ) -> Alert:
        """End the episode of a slot."""
        last, rule = episodes.open.pop(slot), episodes.rule
        en, zh = rule.ends if disproved else ("", "")
        return msgspec.structs.replace(
            last,
            state="cleared",
            change="cleared",
            revision=last.revision + 1,
            at=at,
            version=rule.version,
            en=last.en + en,
            zh=last.zh + zh,
        )

    def _raised(
        self, episodes: Episodes, slot: int, found: Trouble, columns: Columns
    ) -> Alert:
        """Raise or escalate the episode of a slot, on one row's evidence."""
        since, severity, row, phase, score, week_s = found
        rule, (area, subject), at = (
            episodes.rule,
            self.index.pairs[slot],
            int(columns["at"][row]),
        )
        evidence, shown = _evidence_of(rule, columns, row, phase)
        last = episodes.open.get(slot)
        known = self._known_evidence(slot, at) if self._known_evidence else {}
        if last and rule.chronic:
            known = {"week_hours": round(week_s / HOUR_SECONDS, 2)} | known
        evidence, shown = evidence | known, shown | known
        code = IEC_CODES.get(columns["event"][row], "") if "event" in columns else ""
        if "status" in columns and columns["status"][row] == Status.EDITED:
            evidence["edited"] = 1.0
        alert = Alert(
            id=alert_id(rule.name, area, subject, since),
            rule=rule.name,
            version=rule.version,
            kind=rule.kind.kind,
            area=area,
            subject=subject,
            state="raised",
            change=_change_of(severity, last),
            revision=last.revision + 1 if last else 0,
            severity=severity,
            since=since,
            raised=last.raised if last else at,
            at=at,
            score=rounded(score),
            phase=PHASE_NAMES[phase] if phase >= 0 else "",
            evidence=evidence,
            suppressed_by=last.suppressed_by if last else "",
            en=sentence(rule.text[0] + WEEK_TEXT[0] + NEW_CUSTOMER_TEXT[0], shown),
            zh=sentence(rule.text[1] + WEEK_TEXT[1] + NEW_CUSTOMER_TEXT[1], shown),
            code=code,
        )
        episodes.open[slot] = alert
        return alert

    def read(self, slots: Codes) -> SubjectState:
        """All that is remembered of some slots."""
        self.reserve()
        return [(cells.read(slots), {}) for cells in self._subject_cells()] + [
            (e.read(slots), {s: e.open[s] for s in slots.tolist() if s in e.open})
            for e in self.episodes
        ]

    def write(self, slots: Codes, saved: SubjectState) -> None:
        """Go back to what `read` gave of these slots."""
        self.reserve()
        for cells, (held, _) in zip(kept := self._subject_cells(), saved, strict=False):
            cells.write(slots, held)
        for episodes, (held, opened) in zip(
            self.episodes, saved[len(kept) :], strict=True
        ):
            episodes.write_back(slots, held)
            for slot in slots.tolist():
                episodes.open.pop(slot, None)
            episodes.open |= opened

    def forget(self, slots: Codes) -> None:
        """Make all that is remembered of some slots fresh."""
        self.reserve()
        for cells in self._subject_cells():
            cells.clear(slots)
        for episodes in self.episodes:
            episodes.clear(slots)
            for slot in slots.tolist():
                episodes.open.pop(slot, None)

    def owners(self) -> dict[str, Owner]:
        """The features and rules that remember something, and what waits for them."""
        features: dict[str, Owner] = {
            type(f).__name__: f for f in self.features if f.schema()
        }
        return (
            features
            | {e.rule.name: e for e in self.episodes}
            | ({"waiting": self._relearning} if features else {})
        )

    def resume(self, afresh: Collection[str]) -> None:
        """Go on after all owners were loaded, of which some start afresh. Raises StateError."""
        for cells in self._subject_cells():
            within("how many subjects it has", cells.used, 0, len(self.index))
        if waited := [
            feature for feature in self.features if type(feature).__name__ in afresh
        ]:
            self.reserve()
            self._relearning.start(waited)


def _change_of(severity: int, last: Alert | None) -> Change:
    """What an alert of a severity adds to what was told last."""
    if last is None:
        return "raised"
    return "escalated" if severity < last.severity else "revised"


def _missing(column: Column) -> Mask | None:
    """Which rows of a column are NaN; None where none is."""
    if column.dtype.kind != "f":
        return None
    mask: Mask = np.isnan(column)
    return mask if np.count_nonzero(mask) else None


def _is_empty(column: Column) -> bool:
    """Whether a column has no value at all."""
    return bool(np.isnan(column[..., 0]).all() and np.isnan(column).all())


def _rows_to_judge(hot: Mask, tracked: Codes, slots: Codes, *, distinct: bool) -> Codes:
    """The rows to judge: those in trouble and those watched, and of their slots the others; nearly always few."""
    if not np.count_nonzero(hot):
        return tracked
    rows = np.union1d(
        np.flatnonzero(hot.any(axis=0) if hot.ndim == 2 else hot), tracked
    )
    return rows if distinct else np.flatnonzero(np.isin(slots, slots[rows]))


def _worst_of(scores: Column, clear: float, elements: Column) -> Column:
    """The highest score over the phases; well only where every phase that the meter has can tell."""
    worst = np.fmax(np.fmax(scores[0], scores[1]), scores[2])
    partly = (worst < clear) & (3 - np.isnan(scores).sum(axis=0) < elements)
    return np.where(partly, np.nan, worst) if partly.any() else worst


def feature_columns_of(
    feature: Feature, slots: Codes, columns: Columns, passes: list[Codes]
) -> Columns:
    """A feature's columns for a whole batch, folded turn by turn where it must be."""
    if len(passes) == 1 or not feature.distinct:
        return feature.fold(slots, columns)
    taken = {name: columns[name] for name in (*feature.reads, *feature.takes)}
    told: Columns = {}
    for rows in passes:
        part = feature.fold(
            slots[rows], {name: column[..., rows] for name, column in taken.items()}
        )
        for name, column in part.items():
            if name not in told:
                told[name] = np.empty((*column.shape[:-1], len(slots)), column.dtype)
            told[name][..., rows] = column
    return told


def rounded(value: Any) -> float:
    """A float of at most nine significant digits, six where it was of single precision."""
    return float(f"{value:.6g}" if isinstance(value, np.float32) else f"{value:.9g}")


def _evidence_of(
    rule: Rule, columns: Columns, row: int, phase: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The finite values a rule tells of one row, and what its sentences may name: also settings and the worst phase.

    A setting that segments set otherwise is evidence too.
    """
    codes = columns.get("segments")
    settings = rule.in_force(None if codes is None else codes[[row]])
    shown: dict[str, Any] = {"phase": PHASE_NAMES[phase] if phase >= 0 else ""}
    shown |= {
        name: float(np.asarray(setting).flat[row % np.size(setting)])
        for name, setting in settings.items()
    }
    evidence: dict[str, float] = {name: shown[name] for name in rule.tables}
    for name in (*rule.reads, *rule.beside):
        column = columns[name]
        if column.ndim == 2:
            told = {
                f"{name}_{letter.lower()}": column[n, row]
                for n, letter in enumerate(PHASE_NAMES)
            }
            shown[name] = rounded(column[max(phase, 0), row])
        else:
            told = {name: column[row]}
        evidence |= {
            key: rounded(value) for key, value in told.items() if np.isfinite(value)
        }
    return evidence, shown | evidence
