"""Layouts of others, a file for each family: what it is recognised by, and how it becomes a history."""
