"""The numbers of a run's own evaluation, which are no metric's: what is known of each."""

from vae_jax.metrics._quantity import Quantity

NATS = "nats per image"
OF_THE_BOUND = ("likelihood", "bound")
OF_THE_VARIANT = ("likelihood", "bound", "variant")

OWN_TERM = Quantity(agreement=OF_THE_VARIANT)
"""A number that nobody has described: a term of the variant's own, which another variant may mean otherwise."""

UNKNOWN_METRIC = Quantity(agreement=("likelihood", "density"))
"""A metric of the user's own whose module is not here, so that nobody can say whether it is a log density."""

HELD_OUT = {
    "elbo": Quantity(
        unit=NATS,
        higher_is_better=True,
        log_density=True,
        agreement=OF_THE_BOUND,
        definition="The lower bound on the log-likelihood of held-out images, -(distortion + rate), nats per image.",
    ),
    "bound": Quantity(
        unit=NATS,
        higher_is_better=True,
        log_density=True,
        agreement=OF_THE_BOUND,
        definition="The bound that the variant maximises, on held-out images, nats per image.",
    ),
    "distortion": Quantity(
        unit=NATS,
        higher_is_better=False,
        log_density=True,
        agreement=OF_THE_BOUND,
        definition="E_q[-log p(x|z)] of held-out images: nats to describe an image, given its code.",
    ),
    "distortion_relaxed": Quantity(
        unit=NATS,
        higher_is_better=False,
        agreement=OF_THE_BOUND,
        definition="The distortion at a relaxed category, which training minimises: no bound, nats per image.",
    ),
    "rate": Quantity(
        unit=NATS,
        agreement=("bound",),
        definition="KL(q(z|x) || p(z)) of held-out images: nats to send the code.",
    ),
    "loss": Quantity(
        unit=NATS,
        higher_is_better=False,
        log_density=True,
        agreement=(*OF_THE_VARIANT, "weights"),
        definition="What a variant minimises, on held-out images; compares only with the same variant and weights.",
    ),
    "bits_per_dim": Quantity(
        unit="bits per dimension",
        higher_is_better=False,
        log_density=True,
        agreement=OF_THE_BOUND,
        definition="-elbo in bits, for each pixel and channel.",
    ),
}
