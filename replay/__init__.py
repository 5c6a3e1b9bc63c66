"""What was: readers of history, the simulated town, and sending to Kafka."""
