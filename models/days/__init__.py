"""The open days of every area: readings by interval, watermarks, and windows that close or change."""
