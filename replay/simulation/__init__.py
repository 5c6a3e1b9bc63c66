"""The simulated town: its network, customers and office, with faults and decoys planted in it."""
