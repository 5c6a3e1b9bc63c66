"""What is wrong: rules by family, episodes, policy and the engine."""

from detectors import (
    areas,
    billing,
    capacity,
    consumption,
    devices,
    master_data,
    metering,
    payments,
    quality,
    voltage,
    wiring,
    workflow,
)

__all__ = [
    "areas",
    "billing",
    "capacity",
    "consumption",
    "devices",
    "master_data",
    "metering",
    "payments",
    "quality",
    "voltage",
    "wiring",
    "workflow",
]
