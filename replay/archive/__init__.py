"""The archive: the rows that passed on Kafka, kept as Parquet by day in the project's own layout."""
