"""The fleet model of suspicion: the chance that a visit to a customer finds theft, learned offline from past visits."""
