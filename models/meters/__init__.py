"""What is remembered of a meter and its area: validation, and a feature for each question of a rule."""
