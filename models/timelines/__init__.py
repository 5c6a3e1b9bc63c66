"""Items with a deadline: work, bills, settlements and device reports, judged anew when news of them come."""
