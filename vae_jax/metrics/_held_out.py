"""The numbers of a run's own evaluation, which are no metric's: what is known of each."""

from vae_jax.metrics._quantity import Quantity

NATS = "nats per image"

HELD_OUT = {
    "elbo": Quantity(
        unit=NATS,
        higher_is_better=True,
        log_density=True,
        definition="The lower bound on the log-likelihood of held-out images, -(distortion + rate), nats per image.",
    ),
    "bound": Quantity(
        unit=NATS,
        higher_is_better=True,
        log_density=True,
        definition="The bound that the variant maximises, on held-out images, nats per image.",
    ),
    "distortion": Quantity(
        unit=NATS,
        higher_is_better=False,
        log_density=True,
        definition="E_q[-log p(x|z)] of held-out images: nats to describe an image, given its code.",
    ),
    "distortion_relaxed": Quantity(
        unit=NATS,
        higher_is_better=False,
        definition="The distortion at a relaxed category, which training minimises: no bound, nats per image.",
    ),
    "rate": Quantity(unit=NATS, definition="KL(q(z|x) || p(z)) of held-out images: nats to send the code."),
    "loss": Quantity(
        unit=NATS,
        higher_is_better=False,
        log_density=True,
        definition="What the variant minimises, on held-out images; it does not compare different variants.",
    ),
    "bits_per_dim": Quantity(
        unit="bits per dimension",
        higher_is_better=False,
        log_density=True,
        definition="-elbo in bits, for each pixel and channel.",
    ),
}
