"""Whether a customer's use looks like that customer."""

# the order of the rules, and so of their alerts
from detectors.rules.consumption import (
    daily_amounts,
    day_profiles,
    departures,
    typical_use,
)

__all__ = ["daily_amounts", "day_profiles", "departures", "typical_use"]
