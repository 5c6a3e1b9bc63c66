"""The moving parts: topics and agents, checkpoints, metrics, the local runner and the commands."""
