"""Claims that are often made of VAEs, and are put to the test."""

from experiments.why_vae.claim import MIXTURE, Claim, Figure, Row, draws_as_good
from experiments.why_vae.rules import (
    AUTOENCODER,
    DECAY,
    FAILS,
    HOLDS,
    HOLDS_IN_PART,
    LEARNED,
    MATCHED,
    NOISE,
    SHARE,
    VAE,
    above,
    as_good,
    best_decay,
    best_noise,
    matched_decay,
    not_lower,
)

CLAIM_7 = Claim(
    title='"A VAE is an autoencoder plus noise"',
    statement="Noise on the code of an autoencoder is all that a VAE adds.",
    meanings={
        HOLDS_IN_PART: "Noise gives some of what the VAE gains over the autoencoder, and not all.",
        FAILS: "In nothing that the VAE gains over the autoencoder is noise shown to be as good.",
        HOLDS: "By all that could be checked, noise does what the VAE does.",
    },
    rows=(
        Row("Frechet distance, autoencoder", "frechet", AUTOENCODER),
        Row("Frechet distance, autoencoder + noise", "frechet", best_noise),
        Row("Frechet distance, VAE", "frechet", VAE),
        Row("prior's mass near codes, autoencoder", "prior_covered", AUTOENCODER),
        Row("prior's mass near codes, autoencoder + noise", "prior_covered", best_noise),
        Row("prior's mass near codes, VAE", "prior_covered", VAE),
    ),
    figure=Figure(
        "noise",
        "The autoencoder, the same with noise on its codes, and the VAE",
        "If noise were all that a VAE adds, the middle row would be near the last. Each dot is a seed, each bar a 95% "
        "interval of the mean.",
    ),
    rules=(
        *draws_as_good(best_noise, "the noisy autoencoder's"),
        as_good("neighbours", best_noise, "as many of the noisy autoencoder's nearest codes have the same label"),
        as_good("smoothness", best_noise, "the noisy autoencoder's steps along a line are as even"),
        as_good("smoothness.plausible", best_noise, "as many of the noisy autoencoder's midpoints are as sure as data"),
    ),
    method=(
        "The autoencoder is trained with the same noise on every code, z = f(x) + noise epsilon, and compared with the "
        f"VAE by the measures of 1 and 2. It is as good if it falls short by less than {SHARE:.0%} of what the VAE "
        "gains over the plain autoencoder. If no gain is found, there is nothing to be as good at. Noise gets a second "
        "chance with draws from the Gaussian that is fitted to its codes, and so does the autoencoder."
    ),
    groups=(AUTOENCODER, NOISE, VAE),
    measures=(
        "frechet",
        "precision",
        "recall",
        "sure",
        "prior_covered",
        "frechet_fitted",
        "neighbours",
        "smoothness",
        "smoothness.plausible",
    ),
)


CLAIM_8 = Claim(
    title='"The KL is just a regulariser"',
    statement="Any regulariser of the same strength would make the codes as good to draw from.",
    meanings={
        HOLDS_IN_PART: "Some checks find a weight decay as good as the KL and some do not. The last check is not of "
        "like price: it takes the strength that is best with a mixture of Gaussians fitted to its codes.",
        FAILS: "With N(0, I) as the prior, a weight decay of like price is as good as the KL in no check. A density "
        "that is fitted to its codes afterwards is another matter: compare the last two rows of the table with the "
        "VAE's.",
        HOLDS: "By all that could be checked, a weight decay of like price does what the KL does.",
    },
    rows=(
        Row("distortion (the price), nats, weight decay", "distortion", matched_decay),
        Row("distortion (the price), nats, VAE", "distortion", VAE),
        Row("Frechet distance, weight decay of like price", "frechet", matched_decay),
        Row("Frechet distance, VAE", "frechet", VAE),
        Row("Frechet distance, weight decay of like price + fitted mixture", "samples", matched_decay),
        Row("Frechet distance, best weight decay + fitted mixture", "samples", best_decay),
    ),
    figure=Figure(
        "regulariser",
        "Draws from N(0, I) against the price in reconstruction",
        "Each dot is a run; lower and further left is better. At the VAE's price, draws from N(0, I) are much further "
        "from the data under weight decay than under the KL.",
    ),
    premises=(MATCHED,),
    rules=(
        *draws_as_good(matched_decay, "the weight decay's"),
        as_good(
            "samples", matched_decay, "draws from a mixture fitted to the weight decay's codes are as near", *MIXTURE
        ),
        as_good(
            "samples",
            best_decay,
            "draws from the mixture of the best weight decay are as near, whatever its price",
            *MIXTURE,
        ),
    ),
    method=(
        "Autoencoders are trained under weight decay of the decoder and a penalty on codes (rae: distortion + "
        "s |z|^2 / 2 + s |weights|^2, no noise), of several strengths s. The one whose held-out distortion is nearest "
        "to the VAE's has paid as much in reconstruction: it is of like price. A match by rate is not possible: codes "
        "that are points have none, and noise holds no codes back. Draws are from N(0, I), from the Gaussian that is "
        "fitted to the codes, and from the run's own prior: N(0, I), and for rae the mixture of ten Gaussians that it "
        "fits to its codes (the metric `samples`; Ghosh et al. 2020). They are compared with the VAE's from N(0, I) as "
        "in 7."
    ),
    groups=(AUTOENCODER, DECAY, VAE),
    measures=("distortion", "frechet", "precision", "recall", "sure", "prior_covered", "frechet_fitted", "samples"),
)


CLAIM_9 = Claim(
    title='"sigma is the reconstruction\'s uncertainty"',
    statement="The encoder's sigma says how wrong the reconstruction is.",
    meanings={
        HOLDS_IN_PART: "The encoder's sigma has something to do with the error, and is not its measure.",
        FAILS: "No check finds that the encoder's sigma says how wrong the picture is. A correlation below 0 means "
        "that sigmas are smaller where the error is larger.",
        HOLDS: "By these correlations the encoder's sigma predicts the error as well as the decoder's own.",
    },
    rows=(
        Row("encoder's sigma and error, VAE", "encoder_error", VAE),
        Row("encoder's sigma and error, VAE with learned pixel sigmas", "encoder_error", LEARNED),
        Row("decoder's sigma and error, VAE with learned pixel sigmas", "decoder_error", LEARNED),
        Row("the same by pixel", "pixel_error", LEARNED),
    ),
    figure=Figure(
        "uncertainty",
        "Sigma of an image, the encoder's or the decoder's, against the squared error of its pixels",
        "Each dot is a held-out image. An uncertainty rises from left to right, as the decoder's own sigma does (last "
        "panel).",
    ),
    rules=(
        above("encoder_error", VAE, 0.3, "the VAE's sigma is larger where the error is (correlation above 0.3)"),
        above(
            "encoder_error",
            LEARNED,
            0.3,
            "the same holds where the decoder learns a sigma of its own (correlation above 0.3)",
        ),
        not_lower(
            "encoder_error",
            LEARNED,
            "decoder_error",
            0.1,
            "the encoder's sigma predicts the error as well as the decoder's (correlation less than 0.1 lower)",
        ),
    ),
    method=(
        "Spearman's correlation over held-out images between the mean over latents of log sigma and the mean squared "
        "error of the pixels at the mean code. The same is computed for the sd that a decoder gives for each pixel: a "
        "VAE on grey levels whose gaussian has learned sigmas (the last row) takes the mean log sd of an image. By "
        "pixel it is the correlation of that sd with the squared error over all pixels of all images."
    ),
    groups=("beta", VAE, LEARNED),
    measures=("encoder_error", "decoder_error", "pixel_error"),
)

SAYINGS = (CLAIM_7, CLAIM_8, CLAIM_9)
