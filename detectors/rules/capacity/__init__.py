"""Whether a customer or a transformer is loaded beyond what it may carry."""

# the order of the rules, and so of their alerts
from detectors.rules.capacity import customers, transformers

__all__ = ["customers", "transformers"]
