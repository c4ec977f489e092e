"""Training: the step, the loop, devices, checkpoints, records, populations."""
