"""`python -m streams` is `meterwatch`."""

from streams.cli import main

main()
