"""What a run shows: the demo, and one page of its alerts with their curves."""
