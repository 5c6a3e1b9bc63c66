"""What is wrong: rules by family, episodes, policy and the engine."""

from detectors import rules

__all__ = ["rules"]
