"""Settings of papers whose numbers are reproduced: experiments/reproduce runs them, docs/reproductions.md has them."""
