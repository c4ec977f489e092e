"""python -m vae_jax PROGRAM: what vae-jax PROGRAM does."""

from vae_jax.cli import main

main()
