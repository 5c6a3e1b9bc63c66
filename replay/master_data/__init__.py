"""Master data of a utility's own tables: rows to areas, and how they differ from the registry."""
