"""The pages that a person opens in a browser: the report of a study and the latent explorer."""
