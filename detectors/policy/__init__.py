"""Suppressors between rules and readers: each may suppress an alert, and gives the reason.

A suppressed alert is still published, marked with its reason, so that it is counted and can be looked up. Mute and
inhibit follow the events of an area by event time, in whichever order they come, and the failure of an area explains
its meters' alerts; an alert that outlasts its explanation is shown. Repeat, storm and budget are decided when an alert
is raised. Storm and budget brake alerts that can wait: an alert of severity 1 or 2 passes them, and an alert that
escalates is decided anew. Very many alerts of one rule, area and day are published as one notice, which names them.
"""

from detectors.policy.braking import braked
from detectors.policy.policy import Policy

__all__ = ["Policy", "braked"]
