"""Layouts of others, a file for each family: how it is recognised and read."""
