"""Every rule of the project, a module for each family."""

from detectors.rules import (
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
