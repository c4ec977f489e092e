"""What a model is made of: distributions, likelihoods, networks, schedules, optimisers."""
