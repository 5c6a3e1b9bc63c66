"""Snapshots of layouts 7 and 8, whose state was one tree without versions, read as version 1 of every owner."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detectors.revisable import FINAL_SUFFIX
from models.state import Saved, State

OLDER_LAYOUTS = (7, 8)
TIMELINE_PARTS = {"work": ("cells", "items"), "ways": ("cells", "items"), "bills": ("cells", "items"),
         "backlog": ("cells",), "ledger": ("cells", "items"), "reports": ("cells", "items", "energy")}  # fmt: skip
UNCHANGED_OWNERS = ("policy", "order")


def owners(tree: Mapping[str, Any]) -> dict[str, Saved]:
    """The owners of such a tree. Raises KeyError, TypeError, ValueError and the like for any other."""
    found: dict[str, State] = {}
    for name, (pairs, free) in tree["indexes"].items():
        found[f"index/{name}"] = {"pairs": pairs, "free": free}
    grid = tree["grid"]
    found["grid"] = {**grid["clocks"], **grid["member"], "areas": grid["areas"], "blocks": grid["blocks"]}
    found["clocks"] = {name: tree[name] for name in ("clock", "swept")}
    for name in ("attempted", "office", "counts", "told"):
        found[name] = {name: tree[name]}
    found |= {name: tree[name] for name in UNCHANGED_OWNERS}
    found["peers"] = {"states": tree["peers"]}
    found |= {name: _timeline(name, tree[name]) for name in TIMELINE_PARTS if name in tree}
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
    found |= {f"tails/{name}": tree[name] for name in ("present", "sealed", "log", "clock_log")}
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
    yield from _judge(name, tree["sealed"], FINAL_SUFFIX)


def _judge(name: str, tree: Mapping[str, Any], ending: str) -> Iterator[tuple[str, State]]:
    """The features and episodes of a judge."""
    for feature, columns in tree["features"].items():
        yield f"{name}/{feature}{ending}", columns
    for rule, (cells, opened) in tree["episodes"].items():
        yield f"{name}/{rule}{ending}", {**cells, "open": {int(slot): alert for slot, alert in opened.items()}}
