"""Data of others by a mapping: a file of columns names theirs beside the project's, for files and for topics."""
