"""The model's own prior: N(0, I), or what the variant has in its place. Nothing is fitted."""

SAMPLER = None
