"""Sweeps: points, the runs they make, what they take, and how a study stands."""
