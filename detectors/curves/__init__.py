"""What shows an alert: curves with their limit lines, and timelines of the office."""
