"""What is remembered: master data, features, validation and online models."""
