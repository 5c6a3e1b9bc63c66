"""Units of others, and what one of them is in the unit of a column; exact, so that no digit is lost."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

UNIT_PREFIXES: Mapping[str, Fraction] = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    "M": Fraction(1000**2),
    "G": Fraction(1000**3),
}
PREFIXED_UNITS = ("Wh", "varh", "W", "var", "V", "A", "Hz")
OTHER_UNITS: Mapping[str, Mapping[str, Fraction]] = {
    "s": {
        "ms": Fraction(1, 1000),
        "s": Fraction(1),
        "min": Fraction(60),
        "h": Fraction(3600),
        "d": Fraction(86_400),
    },
    "%": {"%": Fraction(1), "pu": Fraction(100)},
    "pu": {"%": Fraction(1, 100), "pu": Fraction(1)},
    "CNY": {"CNY": Fraction(1), "yuan": Fraction(1), "fen": Fraction(1, 100)},
}


def units_for(unit: str) -> Mapping[str, Fraction]:
    """The units whose values a column of a unit can take, and how much of its unit each is.

    >>> {name: str(factor) for name, factor in units_for("kWh").items()}
    {'mWh': '1/1000000', 'Wh': '1/1000', 'kWh': '1', 'MWh': '1000', 'GWh': '1000000'}
    >>> list(units_for("Cel")), list(units_for(""))
    (['Cel'], [])
    """
    if unit in OTHER_UNITS:
        return OTHER_UNITS[unit]
    for base in PREFIXED_UNITS:
        own = (
            UNIT_PREFIXES.get(unit.removesuffix(base)) if unit.endswith(base) else None
        )
        if own is not None:
            return {
                f"{prefix}{base}": factor / own
                for prefix, factor in UNIT_PREFIXES.items()
            }
    return {unit: Fraction(1)} if unit else {}
