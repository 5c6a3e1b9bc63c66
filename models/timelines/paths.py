"""The way of work items through the stages of their section: which stage each came from."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from typing import NamedTuple

from models.state.owners import Schema, State
from schemas.units import DAY_SECONDS

PATH_DAYS = 180  # after which the stage before is no longer known

Move = tuple[int, str]  # when an item entered a stage, and the stage


class Before(NamedTuple):
    """The stage that an item entered before another, "" where it is not known."""

    stage: str = ""
    seconds: int = 0  # since then


class Paths:
    """The last moves of every item, by section; the least recently moved first.

    Of the moves before the sealed rows the last alone is kept, as no later row can follow another.
    """

    def __init__(self) -> None:
        self._moves: dict[str, dict[str, list[Move]]] = {}

    def note(self, section: str, item: str, move: Move, sealed: int) -> list[Move]:
        """Notes a move; the moves right behind it, which another one was before until now."""
        items = self._moves.setdefault(section, {})
        moves = items.pop(item, [])
        items[item] = moves
        if move in moves:
            return []
        insort(moves, move)
        del moves[: max(bisect_left(moves, (sealed, "")) - 1, 0)]

        at, _ = move
        behind = bisect_right(moves, at, key=_time_of)
        next_time = moves[behind][0] if behind < len(moves) else at
        return [other for other in moves[behind:] if other[0] == next_time]

    def before(self, section: str, item: str, at: int) -> Before:
        """The last move of an item before a time."""
        moves = self._moves.get(section, {}).get(item, [])
        behind = bisect_left(moves, at, key=_time_of)
        if not behind:
            return Before()
        entered, stage = moves[behind - 1]
        seconds = at - entered
        return Before(stage, seconds) if seconds < PATH_DAYS * DAY_SECONDS else Before()

    def forget(self, sealed: Mapping[str, int]) -> None:
        """Drops the items of some sections whose last move can no longer be asked for."""
        for section in sealed.keys() & self._moves.keys():
            oldest = sealed[section] - PATH_DAYS * DAY_SECONDS
            items = self._moves[section]
            while items and items[item := next(iter(items))][-1][0] < oldest:
                del items[item]
            if not items:
                del self._moves[section]

    def schema(self) -> Schema:
        """The moves by section and item."""
        return {"moves": dict[str, list[tuple[str, list[Move]]]]}

    def state(self) -> State:
        """Everything remembered."""
        moves = {section: list(items.items()) for section, items in self._moves.items()}
        return {"moves": moves}

    def load(self, state: State) -> None:
        """Replaces everything by a state."""
        self._moves = {
            section: dict(items) for section, items in state.get("moves", {}).items()
        }


def _time_of(move: Move) -> int:
    """When a move was made."""
    return move[0]
