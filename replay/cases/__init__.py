"""Cases of rules: small tables of rows in, and the alerts that must come out."""
