"""The past: readers of history, the simulated town, and sending to Kafka."""
