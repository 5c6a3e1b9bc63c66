"""Master data as of any moment: registry, calendar, tariffs, and the audit of records."""
