"""draft"""

from vae_jax.config import defaults

EPOCH = 600
ROWS = {
    "vae_k1": ("beta", {}),
    "iwae_k5": ("iwae", {"samples": 5}),
    "iwae_k50": ("iwae", {"samples": 50}),
    "dreg_k5": ("iwae", {"samples": 5, "estimator": "dreg"}),
}


def get_config(row: str = "vae_k1"):
    """A row of the table."""
    variant, fields = ROWS[row]
    config = defaults.get_config()
    config.latent_dim = 50
    config.data = defaults.section("data", "mnist", validation=0)
    config.net = defaults.section("net", "mlp", hidden=(200, 200), activation="tanh", init="glorot")
    config.variant = defaults.section("variant", variant, **fields)
    config.train.steps = 400 * EPOCH
    config.train.batch_size = 100
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    config.log.every = EPOCH
    config.evaluation.every = config.checkpoint.every = 20 * EPOCH
    return config
