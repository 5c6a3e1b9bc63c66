"""Snapshots of older layouts, read as the owners of today.

Layouts 7 and 8 had one tree without versions; it is read as version 1 of every owner. Since layout 10 owners, columns
and fields of alerts have other names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from models.state.owners import Saved, State
from schemas.alert import renamed_fields

OLDER_LAYOUTS = (7, 8, 9)
TREE_LAYOUTS = (7, 8)  # whose owners have no versions
RENAMED_OWNERS = {
    "clocks": "watermarks",
    "attempted": "recent_attempts",
    "told": "alert_counts",
    "lost": "withdrawals",
    "grid": "open_days",
    "ways": "stage_order",
    "tails": "reorder",
    "index/journeys": "index/traces",
    "days/Classes": "days/UseClass",
    "days/Classes/sealed": "days/UseClass/final",
}
RENAMED_FOLDERS = {"tails": "reorder", "files": "master_records"}
RENAMED_ENDINGS = {"present": "live", "sealed": "final", "told": "published"}
RENAMED_COLUMNS = {  # by owner of today
    "watermarks": {
        "clock": "watermarks",
        "swept": "forgotten_days",
        "holed": "lost_spans",
    },
    "recent_attempts": {"attempted": "recent_attempts"},
    "office": {"office": "newest"},
    "alert_counts": {"told": "alert_counts"},
    "withdrawals": {"lost": "withdrawals"},
    "open_days": {"top": "highest", "second": "watermark", "blocks": "days"},
    "reorder/log": {"filed": "stored_kwh"},
    "reorder/clock_log": {"heard": "observed_at"},
}
RENAMED_EPISODE_COLUMNS = {
    "well": "well_since",
    "spent": "trouble_seconds",
    "told": "last_revised",
}
RENAMED_FIELDS = {"told": "reports"}  # of a meter's reports
RENAMED_SENTENCES = {" The same is told by": " The same is reported by"}
RENAMED_OUTCOMES = {"doubted": "implausible"}
RENAMED_FAMILIES = {"files": "master_data"}
TIMELINE_PARTS = {
    "work": ("cells", "items"),
    "ways": ("cells", "items"),
    "bills": ("cells", "items"),
    "backlog": ("cells",),
    "ledger": ("cells", "items"),
    "reports": ("cells", "items", "energy"),
}
UNCHANGED_OWNERS = ("policy", "order")


def owners(layout: int, tree: Mapping[str, Any]) -> dict[str, Saved]:
    """The owners of today of an older tree. Raises KeyError, TypeError and the like for another."""
    if layout in TREE_LAYOUTS:
        found = _owners_of_tree(tree["state"])
    else:
        found = msgspec.convert(tree["owners"], dict[str, Saved])
    renamed: dict[str, Saved] = {}
    for old_name, saved in found.items():
        name = _owner_name(old_name)
        renamed[name] = _renamed(name, saved)
    return renamed


def _owner_name(name: str) -> str:
    """The name that an owner has today."""
    if name in RENAMED_OWNERS:
        return RENAMED_OWNERS[name]
    parts = name.split("/")
    if len(parts) == 1:
        return name
    parts[0] = RENAMED_FOLDERS.get(parts[0], parts[0])
    parts[-1] = RENAMED_ENDINGS.get(parts[-1], parts[-1])
    return "/".join(parts)


def _renamed(owner: str, saved: Saved) -> Saved:
    """The state of an owner under the names of today."""
    names = RENAMED_COLUMNS.get(owner, {})
    if "severity" in saved.columns:
        names = RENAMED_EPISODE_COLUMNS
    columns = {
        names.get(name, name): _with_renamed_alerts(value)
        for name, value in saved.columns.items()
    }

    if owner == "counts":
        columns["counts"] = [
            ((kind, RENAMED_OUTCOMES.get(outcome, outcome), reason), count)
            for (kind, outcome, reason), count in columns["counts"]
        ]
    if owner == "policy" and "budgets" in columns:
        columns["budgets"] = [
            ((section, RENAMED_FAMILIES.get(family, family), day), count)
            for (section, family, day), count in columns["budgets"]
        ]
    if owner == "reports":
        items = columns["items"]
        columns["items"] = {
            slot: _with_renamed_fields(item) for slot, item in items.items()
        }
    return Saved(saved.version, saved.schema, columns)


def _with_renamed_fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """A meter's reports with the fields of today."""
    return {RENAMED_FIELDS.get(name, name): value for name, value in item.items()}


def _with_renamed_alerts(value: Any) -> Any:
    """Plain values in which each alert has the fields of today."""
    if isinstance(value, list):
        if not value or not isinstance(value[0], dict):
            return value
        return [_with_renamed_alerts(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "held" in value and "rule" in value:
        return _with_renamed_sentences(renamed_fields(value))
    return {key: _with_renamed_alerts(item) for key, item in value.items()}


def _with_renamed_sentences(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert with the sentences of today, which the policy looks for."""
    for old, new in RENAMED_SENTENCES.items():
        alert["en"] = alert["en"].replace(old, new)
    return alert


def _owners_of_tree(tree: Mapping[str, Any]) -> dict[str, Saved]:
    """The owners of a tree without versions."""
    found: dict[str, State] = {}
    for name, (pairs, free) in tree["indexes"].items():
        found[f"index/{name}"] = {"pairs": pairs, "free": free}
    grid = tree["grid"]
    found["grid"] = {
        **grid["clocks"],
        **grid["member"],
        "areas": grid["areas"],
        "blocks": grid["blocks"],
    }
    found["clocks"] = {name: tree[name] for name in ("clock", "swept")}

    for name in ("attempted", "office", "counts", "told"):
        found[name] = {name: tree[name]}
    found |= {name: tree[name] for name in UNCHANGED_OWNERS}
    found["peers"] = {"states": tree["peers"]}
    found |= {
        name: _timeline(name, tree[name]) for name in TIMELINE_PARTS if name in tree
    }

    found |= _reorder(tree["tails"])
    for name, judge in tree["judges"].items():
        found |= dict(_judges(name, judge))
    return {name: Saved(columns=columns) for name, columns in found.items()}


def _timeline(name: str, tree: Mapping[str, Any]) -> State:
    """The columns of a timeline."""
    columns: State = {}
    for part in TIMELINE_PARTS[name]:
        columns |= {"items": tree["items"]} if part == "items" else tree[part]
    columns |= {key: tree[key] for key in ("firsts",) if key in tree}
    if "durations" in tree:
        columns["stays_begun"], columns["stays_ended"] = tree["durations"]
    return columns


def _reorder(tree: Mapping[str, Any]) -> dict[str, State]:
    """The owners of readings and clocks, and of the tails."""
    found: dict[str, State] = {"tails": {**tree["since"], "late": tree["late"]}}
    found |= {
        f"tails/{name}": tree[name]
        for name in ("present", "sealed", "log", "clock_log")
    }
    for name in ("readings", "clocks"):
        found |= dict(_judges(name, tree[name]))
    return found


def _judges(name: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
    """The owners of a judge, or of a sealed and a present one."""
    if "told" not in tree:
        yield from _judge(name, tree, "")
        return
    yield f"{name}/told", {"alerts": tree["told"]}
    yield from _judge(name, tree["present"], "")
    yield from _judge(name, tree["sealed"], "/sealed")


def _judge(
    name: str, tree: Mapping[str, Any], ending: str
) -> Iterator[tuple[str, State]]:
    """The features and episodes of a judge."""
    for feature, columns in tree["features"].items():
        yield f"{name}/{feature}{ending}", columns
    for rule, (cells, opened) in tree["episodes"].items():
        yield (
            f"{name}/{rule}{ending}",
            {**cells, "open": {int(slot): alert for slot, alert in opened.items()}},
        )
