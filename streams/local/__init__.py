"""The watch without a broker: one process, and one SQLite file with alerts and progress."""
