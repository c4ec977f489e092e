"""Settings of papers whose numbers experiments/reproduce makes again; docs/reproductions.md has them."""
