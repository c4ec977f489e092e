"""The founding claims: what is said, what is measured, and by which checks the numbers decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.why_vae.measures import MIN_DRAWS
from experiments.why_vae.rules import (
    AUTOENCODER,
    DECAY,
    FAILS,
    HOLDS,
    HOLDS_IN_PART,
    HOLDS_SO_FAR,
    LEARNED,
    MATCHED,
    NO_KL,
    NOISE,
    SHARE,
    VAE,
    Choice,
    Rule,
    above,
    as_good,
    below,
    best_decay,
    best_noise,
    better,
    better_than,
    grown,
    if_matched,
    matched_decay,
    no_kl,
    not_lower,
    same_distortion,
    steadiest_decay,
)

SAMPLED_CODES = (AUTOENCODER, NOISE, "beta", VAE)
ALL_MODELS = (*SAMPLED_CODES, DECAY)


@dataclass(frozen=True)
class Claim:
    """A claim: its statement, how it is measured, the groups and measures of its table, its rules, its picture.

    Without its `premises` nothing can be told; `meanings` says in words what a verdict means.
    """

    title: str
    statement: str
    method: str
    groups: tuple[str, ...]
    measures: tuple[str, ...]
    rules: tuple[Rule, ...]
    picture: str
    caption: str
    meanings: Mapping[str, str] = field(default_factory=dict)
    premises: tuple[Rule, ...] = ()


def _draws_as_good(choose: Choice) -> tuple[Rule, ...]:
    return (
        as_good("frechet", choose, "draws from N(0, I) are as near to the data (Frechet)"),
        as_good("recall", choose, "as many of the data lie among them"),
        as_good("sure", choose, "as many are as sure as data"),
        as_good("prior_covered", choose, "as much of the prior's mass has a code near it"),
        as_good("frechet_fitted", choose, "draws from the fitted Gaussian are as near as the VAE's", *GAUSSIAN),
    )


GAUSSIAN, MIXTURE = ("frechet", "frechet_fitted"), ("samples", "frechet_fitted")
"""A fitted density is held against the VAE's draws from N(0, I), in the gain over the autoencoder's fitted Gaussian."""

NOT_SCALE = "and not for the scale alone: they are nearer than its fitted Gaussian's"
SCALE_MEANING = (
    "The first checks are of draws from N(0, I). The last two give the autoencoder the scale of its own codes: the "
    "difference that is left there is due to gaps, the rest is due to scale."
)


CLAIM_1 = Claim(
    title="Codes are points with gaps",
    statement="Draws from N(0, I) decode to garbage for the autoencoder and to digits for the VAE.",
    method=(
        f"As many draws z ~ N(0, I) as there are held-out images, again and again until there are {MIN_DRAWS:,}, are "
        "decoded, and each set is compared with those images in the features of a classifier (Frechet distance "
        "|m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), precision, "
        'recall; docs/metrics.md). Confidence is the mean of the likeliest class; "as sure as data" is the share '
        "of draws of which the classifier is surer than of the least sure 5% of held-out images. The "
        "prior's mass near codes is the share of draws z ~ N(0, I) with a code z' ~ q(z|x), x training images, no "
        "further than the fifth nearest other draw: 1 - 2^-5 = 0.97 where q(z) is N(0, I). The last columns are "
        "of draws from the Gaussian that has the codes' mean and covariance, made of the same noise: what remains when "
        "the scale is right. A decoder that has collapsed (recall near 0) always draws the same, and has the highest "
        "precision and confidence: read those beside recall."
    ),
    groups=ALL_MODELS,
    measures=("frechet", "precision", "recall", "confidence", "sure", "prior_covered", "frechet_fitted", "sure_fitted"),
    rules=(
        better("frechet", VAE, AUTOENCODER, "the VAE's draws are nearer to the data by Frechet distance"),
        better("precision", VAE, AUTOENCODER, "more of them lie among the data (precision)"),
        better("recall", VAE, AUTOENCODER, "more of the data lie among them (recall)"),
        better("confidence", VAE, AUTOENCODER, "the classifier is surer of them"),
        better("prior_covered", VAE, AUTOENCODER, "more of the prior's mass has a code near it"),
        above("sure", VAE, 0.5, "more than half of the VAE's draws are as sure as data"),
        below("sure", AUTOENCODER, 0.5, "fewer than half of the autoencoder's are"),
        better("frechet", VAE, AUTOENCODER, NOT_SCALE, other_measure="frechet_fitted"),
        below("sure_fitted", AUTOENCODER, 0.5, "and of those of its fitted Gaussian, too, fewer than half are sure"),
    ),
    picture="draws",
    caption="Decoded draws from N(0, I). A row is a model, a column the same draw.",
    meanings=dict.fromkeys((HOLDS, HOLDS_SO_FAR, HOLDS_IN_PART), SCALE_MEANING),
)


CLAIM_2 = Claim(
    title="Similar inputs lie near each other",
    statement="Similar inputs lie near each other in the VAE's code space, and interpolation is smooth.",
    method=(
        "Neighbours: the share of the 10 training codes nearest to a held-out image's code (means) that have its "
        "label; the data's row is of nearest images in pixels. Along straight lines between the codes of 1,000 pairs "
        "of held-out images, s_t the steps between pictures in the classifier's features: evenness = mean of mean_t "
        "s_t / max_t s_t, path = sum of steps / sum of chords, and the share of midpoints of which the classifier is "
        "surer than of the least sure 5% of data (the metric `smoothness`). The way between pictures that differ "
        "little is smooth: a decoder that has collapsed wins all of these columns but the first, and a model that "
        "gives up reconstruction gains in them. So the VAE is also compared with the weight decay whose held-out "
        "distortion is nearest to its own, if it is within 2 nats (as in 8)."
    ),
    groups=ALL_MODELS,
    measures=("neighbours", "smoothness", "smoothness.path", "smoothness.plausible", "distortion"),
    rules=(
        better("neighbours", VAE, AUTOENCODER, "more of a code's neighbours have its label than the autoencoder's"),
        better("smoothness", VAE, AUTOENCODER, "steps along a line are more even"),
        better("smoothness.path", VAE, AUTOENCODER, "paths are straighter"),
        better("smoothness.plausible", VAE, AUTOENCODER, "more midpoints are sure to be digits"),
        if_matched(better_than("neighbours", VAE, matched_decay, "at the same price more neighbours have its label")),
        if_matched(better_than("smoothness", VAE, matched_decay, "and steps are more even")),
        if_matched(better_than("smoothness.path", VAE, matched_decay, "and paths are straighter")),
    ),
    picture="lines",
    caption="The way along a straight line between the codes of two held-out images, decoded. A row is a model.",
    meanings={
        HOLDS_IN_PART: "Some checks agree beside the autoencoder, but not all agree beside a penalty that costs the "
        "same in reconstruction.",
    },
)


CLAIM_3 = Claim(
    title="A different z on each visit",
    statement="The same input gives a different z on each visit, and the decoder handles the region.",
    method=(
        "sd of z over 16 visits to each held-out image, a root mean square over images and latents; beside the mean "
        "sigma it shows that z is drawn as the encoder says. sigma / sd of z = sqrt(sum_j E sigma_j^2 / sum_j Var "
        "z_j): 0 for points, 1 where z says nothing of x. The rise is E -log p(x|z) at visited z less that at the "
        "mean, for each model's own clouds; \"moved alike\" takes every model's codes to mean + 1/2 sd(z_j) epsilon, "
        "the same share of their own spread, so that regions are compared and not their size; the last column is the "
        "distortion there. A decoder that has collapsed (rate near 0) has nothing to lose. A rise is below 0 where a "
        "mean, which no draw comes near to in many latents, is itself off what the decoder was trained on. A penalty "
        "on codes and weights makes decoders smooth too, without a cloud: the VAE is compared with that as well."
    ),
    groups=ALL_MODELS,
    measures=("visited", "sigma", "relative", "rate", "rise", "rise_moved", "moved"),
    rules=(
        below("visited", AUTOENCODER, 1e-6, "the autoencoder gives the same z on each visit"),
        above("relative", VAE, 0.1, "the VAE's z differs by more than a tenth of the codes' spread"),
        better("rise_moved", VAE, AUTOENCODER, "codes moved by half their spread cost the VAE fewer nats"),
        better("rise_moved", VAE, NO_KL, "and fewer than without the KL"),
        above("rate", VAE, 1.0, "and not because its z says nothing: it says more than a nat of the image"),
        better("moved", VAE, AUTOENCODER, "so that there it reconstructs better than the autoencoder"),
        if_matched(
            better_than("rise_moved", VAE, matched_decay, "moving costs less than with a decay of the same price")
        ),
        better_than("moved", VAE, steadiest_decay, "and there it reconstructs better than with any weight decay"),
    ),
    picture="visits",
    caption=(
        "From left to right: a held-out image, its reconstruction at the mean code, at six visits of the model's own "
        "z, and at six codes that are moved by half the codes' spread. A row is a model."
    ),
    meanings={
        HOLDS_IN_PART: "Visits differ, and moving a code costs the VAE less; but not all checks of a decoder that "
        "handles the region agree.",
    },
)


CLAIM_4 = Claim(
    title="Without the KL the network cheats",
    statement="Without the KL sigma shrinks towards 0 and means spread out, until it is an autoencoder.",
    method=(
        "beta = 0 over training: before the first step and at each checkpoint that is kept, on held-out images, the "
        "mean sigma, the sd of means (a root mean square over latents), sigma / sd of z as in 3, and KL(q(z) || "
        "N(0, I)), q(z) = 1/N sum_n q(z|x_n), from one z an image (the metric `aggregate_posterior`: too high "
        "where clouds are so far apart that N images do not fill q(z)). Its distortion is compared with the "
        "autoencoder's, without noise on the code."
    ),
    groups=(AUTOENCODER, "beta", VAE),
    measures=("sigma_start", "sigma", "spread_start", "spread", "relative", "aggregate_posterior", "distortion"),
    rules=(
        grown("sigma", "sigma_start", NO_KL, "sigma has shrunk from what it was before training", sign=-1),
        below("sigma", NO_KL, 0.1, "it is below a tenth"),
        grown("spread", "spread_start", NO_KL, "means have spread out"),
        below("relative", NO_KL, 0.1, "clouds are points beside the distances: sigma is below a tenth of z's sd"),
        better("aggregate_posterior", VAE, NO_KL, "q(z) is further from N(0, I) than the VAE's"),
        same_distortion(no_kl, AUTOENCODER, 1.0, "its distortion is within a nat of the autoencoder's"),
    ),
    picture="training",
    caption="Sigma, means and clouds over training, without the KL and with it. Bands are 95% intervals over seeds.",
)


CLAIM_5 = Claim(
    title="With the KL the clouds are centred and overlap",
    statement="With the KL the clouds are centred on 0, as wide as the prior together, and overlap.",
    method=(
        "Distance of the centre: the root mean square over latents of the mean code, 0 if centred; sd of z, 1 for "
        "N(0, I). Overlap: of each held-out image's cloud with the other cloud that it shares most with, the "
        "Bhattacharyya coefficient exp(-1/8 sum (m - m')^2 / v - 1/2 sum log(v / (s s'))), v = (s^2 + s'^2) / 2, "
        "averaged over images: 1 for equal clouds, 0 for points."
    ),
    groups=SAMPLED_CODES,
    measures=("centre", "deviation", "overlap", "aggregate_posterior", "rate"),
    rules=(
        better("centre", VAE, NO_KL, "the VAE's clouds are nearer to 0 than without the KL"),
        below("centre", VAE, 0.2, "their centre is within 0.2 of 0, a root mean square over latents"),
        above("deviation", VAE, 0.9, "together they are as wide as the prior: the sd of z is above 0.9"),
        below("deviation", VAE, 1.1, "and below 1.1"),
        better("overlap", VAE, NO_KL, "they overlap more"),
        above("overlap", VAE, 0.1, "a cloud shares more than a tenth with its nearest"),
        better("aggregate_posterior", VAE, NO_KL, "together they are nearer to N(0, I)"),
    ),
    picture="clouds",
    caption=(
        "Clouds of held-out images in the two latents whose means vary most, coloured by label: ellipses of one sigma, "
        "points where sigma is 0. The dashed circle is two standard deviations of the prior."
    ),
)


CLAIM_6 = Claim(
    title="Samples are new",
    statement="Draws from the VAE are new images of digits and no copies of training images.",
    method=(
        "Distance: the median over draws of the distance in pixels to the nearest training image, in units of the "
        "same of held-out images; below 1 for soft images too, which are near to everything. Nearer to training: how "
        "often the nearest of N training images is nearer than the nearest of N held-out ones, 0.5 for fresh "
        "images and 1 for copies, soft or not. Near copies: the share of draws that prefer a training image as "
        "much as only 1% of fresh images do (the metric `samples`). Garbage is new too, and so is the mean of all "
        "images, which a collapsed decoder draws: read this beside 1."
    ),
    groups=SAMPLED_CODES,
    measures=("distance", "nearer_training", "samples.near_copies", "sure", "recall"),
    rules=(
        above("distance", VAE, 1.0, "the VAE's draws are as far from training images as held-out images are"),
        below("nearer_training", VAE, 0.6, "they prefer training images to held-out ones less than 6 times in 10"),
        below("samples.near_copies", VAE, 0.05, "fewer than 1 in 20 is a near copy"),
        above("sure", VAE, 0.5, "the classifier is as sure of more than half of them as of data"),
        above("recall", VAE, 0.5, "and not the same few: more than half of the data lie among them (recall)"),
    ),
    picture="nearest",
    caption="Draws from the VAE, each above its nearest training image: alike would mean copied.",
)


CLAIM_7 = Claim(
    title='"A VAE is an autoencoder plus noise"',
    statement="Noise on the code of an autoencoder is all that a VAE adds.",
    method=(
        "The autoencoder is trained with the same noise on every code, z = f(x) + noise epsilon, and compared with "
        f"the VAE by the measures of 1 and 2. It is as good if it falls short by less than {SHARE:.0%} of what the "
        "VAE gains over the plain autoencoder; if no gain is found there is nothing to be as good at. It gets a "
        "second chance with draws from the Gaussian that is fitted to its codes, and so does the autoencoder."
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
    rules=(
        *_draws_as_good(best_noise),
        as_good("neighbours", best_noise, "neighbours share labels as often"),
        as_good("smoothness", best_noise, "steps along a line are as even"),
        as_good("smoothness.plausible", best_noise, "midpoints are as sure"),
    ),
    picture="noise",
    caption="Is the middle row near the last? Each dot is a seed, each bar a 95% interval of the mean.",
    meanings={
        HOLDS_IN_PART: "Noise gives some of what a VAE has and not all: the checks say which.",
        FAILS: "Noise is shown to be as good in nothing that the VAE gains over the autoencoder.",
        HOLDS: "By all that could be checked, noise does what the VAE does.",
    },
)


CLAIM_8 = Claim(
    title='"The KL is just a regulariser"',
    statement="Any regulariser of the same strength would make the codes as good to draw from.",
    method=(
        "Autoencoders under weight decay of the decoder and a penalty on codes (rae: distortion + s |z|^2 / 2 + s "
        "|weights|^2, no noise, several s); the one whose held-out distortion is nearest to the VAE's is "
        '"matched": it has paid as much in reconstruction. A match by rate is not possible: codes that are '
        "points have none, and noise holds no codes back. Draws are from N(0, I), from the Gaussian that is fitted "
        "to the codes, and from the run's own prior: N(0, I), and for rae the mixture of ten Gaussians that it fits to "
        "its codes (the metric `samples`). They are compared with the VAE's from N(0, I) as in 7."
    ),
    groups=(AUTOENCODER, DECAY, VAE),
    measures=("distortion", "frechet", "precision", "recall", "sure", "prior_covered", "frechet_fitted", "samples"),
    rules=(
        *_draws_as_good(matched_decay),
        as_good("samples", matched_decay, "draws from the mixture that is fitted afterwards are as near", *MIXTURE),
        as_good("samples", best_decay, "so are those of the best strength, whatever its price", *MIXTURE),
    ),
    picture="regulariser",
    caption=(
        "How far draws from N(0, I) are from the data, against the price in reconstruction. Each dot is a run; lower "
        "and further left is better."
    ),
    meanings={
        HOLDS_IN_PART: "A regulariser of the same price does some of what the KL does: the checks say what.",
        FAILS: "In no check is a regulariser of the same price shown to be as good as the KL. The last check is not of "
        "the same price: it says what a weaker one, with a density that is fitted afterwards, can do.",
        HOLDS: "By all that could be checked, a regulariser of the same price does what the KL does.",
    },
    premises=(MATCHED,),
)


CLAIM_9 = Claim(
    title='"sigma is the reconstruction\'s uncertainty"',
    statement="The encoder's sigma says how wrong the reconstruction is.",
    method=(
        "Spearman's correlation over held-out images between the mean over latents of log sigma and the mean squared "
        "error of the pixels at the mean code; beside it that of the mean log sd that a decoder gives for each "
        "pixel, of a VAE on grey levels whose gaussian has learned sigmas (the last row), where by pixel it is the "
        "correlation of that sd with the squared error over all pixels of all images."
    ),
    groups=("beta", VAE, LEARNED),
    measures=("encoder_error", "decoder_error", "pixel_error"),
    rules=(
        above("encoder_error", VAE, 0.3, "the VAE's sigma is larger where the error is (correlation above 0.3)"),
        above(
            "encoder_error",
            LEARNED,
            0.3,
            "so is the encoder's where the decoder learns its own (correlation above 0.3)",
        ),
        not_lower(
            "encoder_error",
            LEARNED,
            "decoder_error",
            0.1,
            "the encoder's sigma predicts the error as well as the decoder's (correlation less than 0.1 lower)",
        ),
    ),
    picture="uncertainty",
    caption=(
        "The pixels' error of held-out images of one seed, against the encoder's sigma of a VAE (left), and against "
        "both sigmas of a VAE whose decoder learns its own. An uncertainty would rise from left to right."
    ),
    meanings={
        HOLDS_IN_PART: "The encoder's sigma has something to do with the error: the checks say how far.",
        FAILS: "No check finds that the encoder's sigma says how wrong the picture is. A correlation below 0 means "
        "that sigmas are smaller where the error is larger.",
        HOLDS: "By these correlations the encoder's sigma predicts the error as well as the decoder's own.",
    },
)


CLAIM_10 = Claim(
    title="The autoencoder against the VAE",
    statement=(
        "A VAE codes an image as a cloud and not a point, puts its clouds where the prior is, can generate, and pays "
        "for it in reconstruction."
    ),
    method=(
        "The numbers of 1 to 6 side by side. The autoencoder's loss is its distortion; the VAE's is distortion + rate, "
        "an upper bound on -log p(x), which the autoencoder has not."
    ),
    groups=(AUTOENCODER, VAE),
    measures=(),
    rules=(
        above("relative", VAE, 0.1, "representation: the VAE's codes are clouds (sigma above a tenth of z's sd)"),
        better("overlap", VAE, AUTOENCODER, "structure: clouds overlap"),
        better("prior_covered", VAE, AUTOENCODER, "structure: codes are where the prior is"),
        better("frechet", VAE, AUTOENCODER, "generation: draws are nearer to the data"),
        above("sure", VAE, 0.5, "generation: more than half of them are as sure as data"),
        better("distortion", AUTOENCODER, VAE, "loss: the autoencoder reconstructs better"),
    ),
    picture="table",
    caption="The main numbers of 1 to 6. Each dot is a seed, each bar a 95% interval of the mean.",
)

CLAIMS = (CLAIM_1, CLAIM_2, CLAIM_3, CLAIM_4, CLAIM_5, CLAIM_6, CLAIM_7, CLAIM_8, CLAIM_9, CLAIM_10)
