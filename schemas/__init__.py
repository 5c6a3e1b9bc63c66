"""The data that flows: columns, alerts, master data and their wire formats."""
