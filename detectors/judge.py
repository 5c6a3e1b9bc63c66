"""Judges the rows of one kind: features, then every rule, then its episodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np

from detectors.episode_alerts import Trouble, cleared_alert, raised_alert
from detectors.episodes import Episodes
from detectors.relearning import Relearning
from detectors.rule import Rule
from detectors.rule_counts import no_counts
from models.feature import Feature, feature_columns_of
from models.state.cells import Array, Cells, Columns
from models.state.index import Index
from models.state.owners import Owner, within
from models.state.passes import unique_passes
from schemas.alert import Alert
from schemas.columns import Batch, Codes, Column, Mask, Times

Missing = Mapping[str, Mask | None]  # the NaN rows of a column; None if there are none
Enrich = Callable[[Codes, Any], Columns]
EvidenceOf = Callable[[int, int], dict[str, float]]
# by a rule, the slots and columns of rows, and their scores
ScoreObserver = Callable[[Rule, Codes, Columns, Column], None]
TIED_SHARE = 1e-6  # of the highest score, within which phases are equally bad
SubjectState = list[tuple[dict[str, Array], dict[int, Alert]]]


class Judge:
    """The features and rules of one kind, with all their state."""

    def __init__(
        self,
        kind: type[Batch],
        rules: Iterable[Rule],
        features: Sequence[Feature],
        index: Index,
        enrich: Enrich,
        subject_evidence: EvidenceOf | None = None,
    ) -> None:
        self.kind = kind

        names = [field.name for field in fields(kind)]
        self._own_columns = [name for name in names if name not in kind.encodings()]
        self.features = features
        self.index = index
        self.enrich = enrich
        self._subject_evidence = subject_evidence

        self._tracked = Cells(rules=np.uint16(0))  # how many rules track a subject
        self._relearning = Relearning()
        self.feature_columns: Columns = {}  # of the last batch, by the features
        self.observe: ScoreObserver | None = None  # sees the scores of all rows
        self.counts = no_counts()
        self.clock: Callable[[], float] | None = None  # in seconds; counts with it
        self.episodes: list[Episodes] = []
        self.adopt(rules)

    def adopt(self, rules: Iterable[Rule]) -> list[Episodes]:
        """Switch to the rules of this kind. Returns the episodes of rules that were removed or changed."""
        self.rules = [rule for rule in rules if rule.kind is self.kind]
        self.reads = sorted({name for rule in self.rules for name in rule.reads})
        self.segmented = any(rule.tables for rule in self.rules)

        known = {episodes.rule.name: episodes for episodes in self.episodes}
        self.episodes = []
        for rule in self.rules:
            episodes = known.get(rule.name)
            if episodes and _same_meaning(episodes.rule, rule):
                del known[rule.name]
                episodes.rule = rule
            else:
                episodes = Episodes(rule, self._tracked)
            self.episodes.append(episodes)
        self._alike = _scored_alike(self.episodes)
        for rule in self.rules:  # so that the counts of known rules can be copied
            for count in self.counts[:2]:
                count.setdefault(rule.name, 0)

        for episodes in known.values():
            episodes.clear(episodes.slots)
        return list(known.values())

    def drop_unread_features(self) -> None:
        """Drop the features that no rule reads, itself or by another feature. It can then adopt no other rules."""
        read = {"gap"}
        for rule in self.rules:
            read |= {*rule.reads, *rule.beside}

        kept: list[Feature] = []
        for feature in reversed(self.features):
            if not read.isdisjoint(feature.gives):
                read |= {*feature.uses}
                kept.append(feature)
        self.features = kept[::-1]

    def reserve(self) -> None:
        """Make room for every slot of the index."""
        for cells in (self._tracked, *self._subject_cells()):
            cells.reserve(len(self.index))

    def _subject_cells(self) -> list[Cells]:
        """The cells of every subject, tracked or not."""
        return [*(feature.cells for feature in self.features), self._relearning.cells]

    def judge(
        self,
        batch: Batch,
        slots: Codes,
        more: Columns | None = None,
        passes: list[Codes] | None = None,
    ) -> list[Alert]:
        """Judge a batch; rows of a slot count in order of arrival. `more` are columns beside the batch's own.

        If `passes` are given, rows count pass by pass, and alerts are in order of time.
        """
        if not len(slots) or not (self.rules or self.features):
            return []
        self.reserve()
        columns = self._columns_of(batch, slots, more)
        alerts: list[Alert] = []
        by_time = bool(passes)
        passes = passes or list(unique_passes(slots))
        tracked = np.flatnonzero(self._tracked["rules"][slots])

        with np.errstate(invalid="ignore", divide="ignore"):
            self._add_features(columns, slots, passes)
            missing = {name: _missing(columns[name]) for name in self.reads}
            empty = {
                name
                for name, mask in missing.items()
                if mask is not None and np.count_nonzero(mask) == mask.size
            }
            for alike in self._alike:
                if not empty.isdisjoint(alike[0].rule.reads):
                    self.counts.undecided[alike[0].rule.name] += len(slots)
                else:
                    alerts += self.judge_alike(
                        alike,
                        batch.at,
                        columns,
                        missing,
                        slots,
                        tracked,
                        distinct=len(passes) == 1,
                    )
        return sorted(alerts, key=attrgetter("at")) if by_time else alerts

    def _columns_of(self, batch: Batch, slots: Codes, more: Columns | None) -> Columns:
        """The columns of a batch, and `more`, or the master data of its subjects."""
        columns: Columns = {name: getattr(batch, name) for name in self._own_columns}
        columns |= self.enrich(slots, batch) if more is None else more
        if self.segmented and "segments" in columns:
            columns["segments"] = columns["segments"].astype(np.intp)
        return columns

    def _add_features(
        self, columns: Columns, slots: Codes, passes: list[Codes]
    ) -> None:
        """Add the columns of every feature; NaN if the feature reads an empty column."""
        self.feature_columns = {}
        for feature in self.features:
            if any(_is_empty(columns[name]) for name in feature.reads):
                empty = np.broadcast_to(np.nan, len(slots))
                given = dict.fromkeys(feature.gives, empty)
            else:
                given = feature_columns_of(feature, slots, columns, passes)
                given = self._relearning.hide(feature, slots, given)
            columns |= given
            self.feature_columns |= given
        self._relearning.count_rows(slots)

    def judge_alike(
        self,
        alike: Sequence[Episodes],
        at: Times,
        columns: Columns,
        missing: Missing,
        slots: Codes,
        tracked: Codes,
        *,
        distinct: bool,
    ) -> Iterator[Alert]:
        """Judge rows by rules with the same scores; `tracked` are the rows of slots that any rule tracks."""
        rule = alike[0].rule
        began = self.clock() if self.clock else 0.0
        scores = rule.score(columns, missing)
        if self.clock:
            self._count(rule, scores, self.clock() - began)
        if self.observe:
            self.observe(rule, slots, columns, scores)
        for episodes in alike:
            yield from self._judge_scores(
                episodes, at, columns, scores, slots, tracked, distinct=distinct
            )

    def _count(self, rule: Rule, scores: Column, seconds: float) -> None:
        """Count the rows with and without a score by a rule, and its time."""
        unknown: Array = np.isnan(scores)
        if unknown.ndim == 2:
            unknown = np.logical_and.reduce(unknown)
        undecided = int(np.count_nonzero(unknown))
        self.counts.undecided[rule.name] += undecided
        self.counts.decided[rule.name] += len(unknown) - undecided

        by_family = self.counts.seconds
        by_family[rule.family] = by_family.get(rule.family, 0.0) + seconds

    def _judge_scores(
        self,
        episodes: Episodes,
        at: Times,
        columns: Columns,
        scores: Column,
        slots: Codes,
        tracked: Codes,
        *,
        distinct: bool,
    ) -> Iterator[Alert]:
        """Judge rows by their scores of one rule."""
        rule = episodes.rule
        if len(tracked):
            tracked = tracked[episodes.positions(slots[tracked])[1]]
        rows = _rows_to_judge(
            scores >= rule.levels[0].score, tracked, slots, distinct=distinct
        )
        if not len(rows):
            return

        worst = scores[..., rows]
        if worst.ndim == 2:
            worst = worst_of(worst, rule.clear, columns["elements"][rows])
        if (unknown := np.isnan(worst)).any():
            rows, worst = rows[~unknown], worst[~unknown]

        gap = columns["gap"][rows] if "gap" in columns else None
        for change in episodes.update(rows, slots[rows], at[rows], worst, gap):
            row = change.row
            slot = int(slots[row])
            if not change.severity:
                last = episodes.open.pop(slot)
                yield cleared_alert(
                    rule, last, int(at[row]), disproved=change.disproved
                )
                continue

            score = scores[..., row]
            phase = _worst_phase(score) if score.ndim else -1
            trouble = Trouble(
                change.since,
                change.severity,
                row,
                phase,
                float(score[phase] if score.ndim else score),
                change.week_s,
            )
            known: dict[str, float] = {}
            if self._subject_evidence:
                known = self._subject_evidence(slot, int(at[row]))
            alert = raised_alert(
                rule,
                self.index.pairs[slot],
                trouble,
                columns,
                known,
                episodes.open.get(slot),
            )
            episodes.open[slot] = alert
            yield alert

    def read(self, slots: Codes) -> SubjectState:
        """The whole state of `slots`."""
        self.reserve()
        saved: SubjectState = [
            (cells.read(slots), {}) for cells in self._subject_cells()
        ]
        if not self._tracks(slots):
            return saved

        for episodes in self.episodes:
            opened = {
                slot: episodes.open[slot]
                for slot in slots.tolist()
                if slot in episodes.open
            }
            saved.append((episodes.read(slots), opened))
        return saved

    def write(self, slots: Codes, saved: SubjectState) -> None:
        """Go back to the state of `slots` that `read` gave."""
        self.reserve()
        subject_cells = self._subject_cells()
        for cells, (values, _) in zip(subject_cells, saved, strict=False):
            cells.write(slots, values)

        self._clear_episodes(slots)
        # none were read if no rule tracked a slot
        for episodes, (values, opened) in zip(
            self.episodes, saved[len(subject_cells) :], strict=False
        ):
            episodes.write_back(slots, values)
            episodes.open |= opened

    def forget(self, slots: Codes) -> None:
        """Forget the state of `slots`."""
        self.reserve()
        for cells in self._subject_cells():
            cells.clear(slots)
        self._clear_episodes(slots)

    def _tracks(self, slots: Codes) -> bool:
        """True if any rule tracks one of `slots`; of others no episode has a state."""
        return bool(self._tracked["rules"][slots].any())

    def _clear_episodes(self, slots: Codes) -> None:
        """Forget the episodes of `slots`."""
        if not self._tracks(slots):
            return
        for episodes in self.episodes:
            episodes.clear(slots)
            for slot in slots.tolist():
                episodes.open.pop(slot, None)

    def owners(self) -> dict[str, Owner]:
        """The features and rules with a state, and the subjects that wait for features."""
        owners: dict[str, Owner] = {
            type(feature).__name__: feature
            for feature in self.features
            if feature.schema()
        }
        waiting: dict[str, Owner] = {"waiting": self._relearning} if owners else {}
        owners |= {episodes.rule.name: episodes for episodes in self.episodes}
        return owners | waiting

    def resume(self, afresh: Collection[str]) -> None:
        """Go on after all owners were loaded; those in `afresh` start afresh. Raises StateError."""
        for cells in self._subject_cells():
            within("the number of its subjects", cells.used, 0, len(self.index))
        waited = [
            feature for feature in self.features if type(feature).__name__ in afresh
        ]
        if waited:
            self.reserve()
            self._relearning.start(waited)


def _scored_alike(all_episodes: Iterable[Episodes]) -> list[list[Episodes]]:
    """Episodes in runs of rules whose scores are the same; rule sets that share a pass may differ in the rest."""
    alike: list[list[Episodes]] = []
    for episodes in all_episodes:
        if alike and alike[-1][0].rule.scores_like(episodes.rule):
            alike[-1].append(episodes)
        else:
            alike.append([episodes])
    return alike


def _same_meaning(old: Rule, new: Rule) -> bool:
    """Whether the episodes of a rule go on under its new settings."""
    return (old.levels, old.status) == (new.levels, new.status)


def _missing(column: Column) -> Mask | None:
    """Which rows of a column are NaN; None if there are none."""
    if column.dtype.kind != "f":
        return None
    mask: Mask = np.isnan(column)
    return mask if np.count_nonzero(mask) else None


def _is_empty(column: Column) -> bool:
    """Whether a column has no value at all."""
    return bool(np.isnan(column[..., 0]).all() and np.isnan(column).all())


def _rows_to_judge(
    troubled: Mask, tracked: Codes, slots: Codes, *, distinct: bool
) -> Codes:
    """The rows to judge, nearly always few: rows in trouble or tracked, and all of their slots."""
    if not np.count_nonzero(troubled):
        return tracked
    rows = np.union1d(
        np.flatnonzero(troubled.any(axis=0) if troubled.ndim == 2 else troubled),
        tracked,
    )
    return rows if distinct else np.flatnonzero(np.isin(slots, slots[rows]))


def _worst_phase(score: Column) -> int:
    """The first phase with the highest score of a row, rounding aside: processors round angles differently.

    >>> _worst_phase(np.array([np.nan, 1.5, 1.5 * (1 + 1e-8)]))
    1
    """
    highest = np.nanmax(score)
    least = min(highest, highest * (1 - TIED_SHARE))
    return int(np.argmax(score >= least))


def worst_of(scores: Column, clear: float, elements: Column) -> Column:
    """The highest score over the phases; NaN if it is well but one of the meter's phases is NaN."""
    worst = np.fmax(np.fmax(scores[0], scores[1]), scores[2])
    undecided = (worst < clear) & (3 - np.isnan(scores).sum(axis=0) < elements)
    return np.where(undecided, np.nan, worst) if undecided.any() else worst
