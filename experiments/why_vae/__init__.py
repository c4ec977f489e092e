"""Why a VAE is not an autoencoder: ten claims, measured on the runs of configs/why_vae.py."""
