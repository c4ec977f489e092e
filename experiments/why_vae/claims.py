"""The founding claims: what is said of a VAE's codes and draws, and what is often said and wrong."""

from experiments.why_vae.claim import ALL_MODELS, SAMPLED_CODES, Claim, Figure, Row
from experiments.why_vae.measures import MIN_DRAWS
from experiments.why_vae.rules import (
    AUTOENCODER,
    HOLDS,
    HOLDS_IN_PART,
    HOLDS_SO_FAR,
    NO_KL,
    VAE,
    above,
    below,
    better,
    better_than,
    grown,
    if_matched,
    matched_decay,
    no_kl,
    same_distortion,
    steadiest_decay,
)
from experiments.why_vae.sayings import SAYINGS

SCALE_AND_GAPS = (
    "The autoencoder fails for two reasons: its codes do not have the scale of N(0, I), and there are gaps between "
    "them. Draws from a Gaussian that is fitted to its codes have the right scale. What they still lack is due to the "
    "gaps."
)

CLAIM_1 = Claim(
    title="Codes are points with gaps",
    statement="Draws from N(0, I) decode to garbage for the autoencoder and to digits for the VAE.",
    meanings=dict.fromkeys((HOLDS, HOLDS_SO_FAR, HOLDS_IN_PART), SCALE_AND_GAPS),
    rows=(
        Row("Frechet distance, autoencoder", "frechet", AUTOENCODER),
        Row("Frechet distance, autoencoder's fitted Gaussian", "frechet_fitted", AUTOENCODER),
        Row("Frechet distance, VAE", "frechet", VAE),
        Row("share as sure as data, autoencoder", "sure", AUTOENCODER),
        Row("share as sure as data, autoencoder's fitted Gaussian", "sure_fitted", AUTOENCODER),
        Row("share as sure as data, VAE", "sure", VAE),
    ),
    figure=Figure(
        "draws",
        "Held-out images, and decoded draws of z from N(0, I) or from a fitted Gaussian",
        "The autoencoder's draws from N(0, I) are fragments. Draws from a Gaussian that is fitted to its codes look "
        "more like digits, and so do the VAE's draws from N(0, I).",
    ),
    rules=(
        better("frechet", VAE, AUTOENCODER, "the VAE's draws are nearer to the data than the autoencoder's (Frechet)"),
        better("precision", VAE, AUTOENCODER, "more of the VAE's draws lie among the data (precision)"),
        better("recall", VAE, AUTOENCODER, "more of the data lies among the VAE's draws (recall)"),
        better("confidence", VAE, AUTOENCODER, "the classifier is surer of the VAE's draws"),
        better("prior_covered", VAE, AUTOENCODER, "more of the prior's mass has one of the VAE's codes near it"),
        above("sure", VAE, 0.5, "more than half of the VAE's draws are as sure as data"),
        below("sure", AUTOENCODER, 0.5, "fewer than half of the autoencoder's draws are as sure as data"),
        better(
            "frechet",
            VAE,
            AUTOENCODER,
            "the VAE's draws are nearer than draws from the autoencoder's fitted Gaussian (Frechet)",
            other_measure="frechet_fitted",
        ),
        below("sure_fitted", AUTOENCODER, 0.5, "fewer than half of the fitted Gaussian's draws are as sure as data"),
    ),
    method=(
        f"A model decodes as many draws z ~ N(0, I) as there are held-out images, in several sets until there are "
        f"{MIN_DRAWS:,}. Each set is compared with the held-out images in the features of a classifier: Frechet "
        "distance |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), precision and recall (docs/metrics.md). Confidence "
        'is the mean probability of the likeliest class. A draw is "as sure as data" if the classifier is surer of it '
        "than of the least sure 5% of held-out images. The prior's mass near codes is the share of draws z ~ N(0, I) "
        "with a code z' ~ q(z|x), x training images, no further away than the fifth nearest other draw: 1 - 2^-5 = "
        "0.97 where q(z) is N(0, I). The fitted Gaussian has the mean and covariance of the codes, and its draws are "
        "made of the same noise. A decoder that has collapsed always draws the same picture: recall near 0 shows it. "
        "Its precision and confidence are the highest of all, so read those beside recall."
    ),
    groups=ALL_MODELS,
    measures=("frechet", "precision", "recall", "confidence", "sure", "prior_covered", "frechet_fitted", "sure_fitted"),
)


CLAIM_2 = Claim(
    title="Similar inputs lie near each other",
    statement="Similar inputs lie near each other in the VAE's code space, and interpolation is smooth.",
    meanings={
        HOLDS_IN_PART: "The claim is checked twice: against the plain autoencoder, and against a weight decay that "
        "costs as much reconstruction as the KL. Not all of these checks agree.",
    },
    rows=(
        Row("neighbours of the same label, autoencoder", "neighbours", AUTOENCODER),
        Row("neighbours of the same label, VAE", "neighbours", VAE),
        Row("neighbours of the same label, weight decay of like price", "neighbours", matched_decay),
        Row("evenness of steps, autoencoder", "smoothness", AUTOENCODER),
        Row("evenness of steps, VAE", "smoothness", VAE),
        Row("evenness of steps, weight decay of like price", "smoothness", matched_decay),
    ),
    figure=Figure(
        "lines",
        "Two held-out images (ends), and decoded codes on the straight line between theirs",
        "A smooth way changes a little with each step and shows a digit at every step.",
    ),
    rules=(
        better("neighbours", VAE, AUTOENCODER, "more of the VAE's nearest codes have the same label"),
        better("smoothness", VAE, AUTOENCODER, "the VAE's steps along a line are more even"),
        better("smoothness.path", VAE, AUTOENCODER, "the VAE's paths are straighter"),
        better("smoothness.plausible", VAE, AUTOENCODER, "more of the VAE's midpoints are as sure as data"),
        if_matched(
            better_than(
                "neighbours",
                VAE,
                matched_decay,
                "more of the VAE's nearest codes have the same label than under weight decay of like price",
            )
        ),
        if_matched(
            better_than(
                "smoothness", VAE, matched_decay, "the VAE's steps are more even than under weight decay of like price"
            )
        ),
        if_matched(
            better_than(
                "smoothness.path",
                VAE,
                matched_decay,
                "the VAE's paths are straighter than under weight decay of like price",
            )
        ),
    ),
    method=(
        "Neighbours: the share of the 10 training codes nearest to a held-out image's code (means) that have its "
        "label. The data's row is of the nearest images in pixels. Lines: straight ones between the codes of 1,000 "
        "pairs of held-out images; s_t are the steps between pictures in the classifier's features. Evenness is the "
        "mean of mean_t s_t / max_t s_t, path is the sum of steps over the sum of chords, and a midpoint is sure if "
        "the classifier is surer of it than of the least sure 5% of data (the metric `smoothness`). Pictures that "
        "differ little have a smooth way between them. So a decoder that has collapsed wins every column but the "
        "first, and a model that gives up reconstruction gains in them. This is why the VAE is also compared with the "
        "weight decay whose held-out distortion is nearest to its own, if it is within 2 nats (as in 8)."
    ),
    groups=ALL_MODELS,
    measures=("neighbours", "smoothness", "smoothness.path", "smoothness.plausible", "distortion"),
)


CLAIM_3 = Claim(
    title="A different z on each visit",
    statement="The same input gives a different z on each visit, and the decoder handles the region.",
    meanings={
        HOLDS_IN_PART: "Visits differ, and the VAE loses less than the autoencoder where codes are moved. But not all "
        "checks of a decoder that handles the region agree.",
    },
    rows=(
        Row("sigma / sd of z, VAE", "relative", VAE),
        Row("nats lost where codes are moved, autoencoder", "rise_moved", AUTOENCODER),
        Row("nats lost where codes are moved, VAE", "rise_moved", VAE),
        Row("nats lost where codes are moved, weight decay of like price", "rise_moved", matched_decay),
        Row("distortion there, nats, VAE", "moved", VAE),
        Row("distortion there, nats, best weight decay", "moved", steadiest_decay),
    ),
    figure=Figure(
        "visits",
        "An image, and its reconstructions at the mean, at visits and at moved codes",
        "The autoencoder has one code for an image, so that its visits are all alike. The VAE's differ. On the right "
        "every model's codes are moved by half the spread of its codes.",
    ),
    rules=(
        below("visited", AUTOENCODER, 1e-6, "the autoencoder gives the same z on each visit"),
        above("relative", VAE, 0.1, "the VAE's z differs by more than a tenth of the spread of codes"),
        better("rise_moved", VAE, AUTOENCODER, "moving codes by half their spread costs the VAE fewer nats"),
        better("rise_moved", VAE, NO_KL, "moving codes costs the VAE fewer nats than without the KL"),
        above("rate", VAE, 1.0, "the VAE's z says more than a nat of the image, so that it has something to lose"),
        better("moved", VAE, AUTOENCODER, "where codes are moved the VAE reconstructs better than the autoencoder"),
        if_matched(
            better_than(
                "rise_moved", VAE, matched_decay, "moving codes costs the VAE less than weight decay of like price"
            )
        ),
        better_than(
            "moved", VAE, steadiest_decay, "where codes are moved the VAE reconstructs better than any weight decay"
        ),
    ),
    method=(
        "sd of z over 16 visits to each held-out image, a root mean square over images and latents. It agrees with the "
        "mean sigma: z is drawn as the encoder says. sigma / sd of z = sqrt(sum_j E sigma_j^2 / sum_j Var z_j): 0 for "
        "points, 1 where z says nothing of x. The rise is E -log p(x|z) at visited z less that at the mean, for each "
        "model's own clouds. \"Moved alike\" takes every model's codes to mean + 1/2 sd(z_j) epsilon, the same share "
        "of their own spread, so that the size of a cloud does not matter; the last column is the distortion there. A "
        "decoder that has collapsed (rate near 0) has nothing to lose. A rise is below 0 where the mean itself is off "
        "what the decoder was trained on: in many latents no draw comes near it. A penalty on codes and weights makes "
        "decoders smooth too, without a cloud, so the VAE is compared with that as well."
    ),
    groups=ALL_MODELS,
    measures=("visited", "sigma", "relative", "rate", "rise", "rise_moved", "moved"),
)


CLAIM_4 = Claim(
    title="Without the KL the network cheats",
    statement="Without the KL sigma shrinks towards 0 and means spread out, until it is an autoencoder.",
    rows=(
        Row("mean sigma, beta = 0, before training", "sigma_start", NO_KL),
        Row("mean sigma, beta = 0, trained", "sigma", NO_KL),
        Row("sd of means, beta = 0, before training", "spread_start", NO_KL),
        Row("sd of means, beta = 0, trained", "spread", NO_KL),
        Row("distortion, nats, beta = 0", "distortion", NO_KL),
        Row("distortion, nats, autoencoder", "distortion", AUTOENCODER),
    ),
    figure=Figure(
        "training",
        "Sigma, means and codes over training, without the KL (beta = 0) and with it",
        "Without the KL (orange) sigma falls for as long as training lasts, and means spread out. With it (green) both "
        "settle early. Lines are means over seeds, bands 95% intervals.",
    ),
    rules=(
        grown("sigma", "sigma_start", NO_KL, "without the KL sigma is smaller than it was before training", sign=-1),
        below("sigma", NO_KL, 0.1, "without the KL sigma is below a tenth"),
        grown("spread", "spread_start", NO_KL, "without the KL means are further apart than they were before training"),
        below(
            "relative",
            NO_KL,
            0.1,
            "without the KL sigma is below a tenth of z's sd: clouds are points beside the distances",
        ),
        better("aggregate_posterior", VAE, NO_KL, "without the KL q(z) is further from N(0, I)"),
        same_distortion(no_kl, AUTOENCODER, 1.0, "without the KL the distortion is within a nat of the autoencoder's"),
    ),
    method=(
        "Held-out images are encoded before the first step and at each checkpoint: the mean sigma, the sd of means (a "
        "root mean square over latents), sigma / sd of z as in 3, and KL(q(z) || N(0, I)) with q(z) = 1/N sum_n "
        "q(z|x_n), from one z an image (the metric `aggregate_posterior`). That KL is too high where clouds are so far "
        "apart that N images do not fill q(z). The distortion is compared with that of the autoencoder without noise "
        "on its code."
    ),
    groups=(AUTOENCODER, "beta", VAE),
    measures=("sigma_start", "sigma", "spread_start", "spread", "relative", "aggregate_posterior", "distortion"),
)


CLAIM_5 = Claim(
    title="With the KL the clouds are centred and overlap",
    statement="With the KL the clouds are centred on 0, as wide as the prior together, and overlap.",
    rows=(
        Row("distance of the centre from 0, beta = 0", "centre", NO_KL),
        Row("distance of the centre from 0, VAE", "centre", VAE),
        Row("sd of z, VAE", "deviation", VAE),
        Row("overlap with the nearest cloud, VAE", "overlap", VAE),
        Row("KL(q(z) to N(0, I)), nats, beta = 0", "aggregate_posterior", NO_KL),
        Row("KL(q(z) to N(0, I)), nats, VAE", "aggregate_posterior", VAE),
    ),
    figure=Figure(
        "clouds",
        "Clouds of held-out images in the two latents whose means vary most",
        "An ellipse is one image's cloud, of one sigma; a point has sigma 0 or nearly so. The dashed circle is two "
        "standard deviations of the prior. Each panel has its own scale.",
    ),
    rules=(
        better("centre", VAE, NO_KL, "the VAE's clouds are nearer to 0 than without the KL"),
        below("centre", VAE, 0.2, "the VAE's centre is within 0.2 of 0, a root mean square over latents"),
        above("deviation", VAE, 0.9, "the VAE's clouds together are as wide as the prior: the sd of z is above 0.9"),
        below("deviation", VAE, 1.1, "the VAE's clouds together are no wider than the prior: the sd of z is below 1.1"),
        better("overlap", VAE, NO_KL, "the VAE's clouds overlap more than without the KL"),
        above("overlap", VAE, 0.1, "one of the VAE's clouds shares more than a tenth with its nearest"),
        better(
            "aggregate_posterior", VAE, NO_KL, "the VAE's clouds together are nearer to N(0, I) than without the KL"
        ),
    ),
    method=(
        "Distance of the centre: the root mean square over latents of the mean code, 0 if centred. sd of z: 1 for "
        "N(0, I). Overlap: the Bhattacharyya coefficient of each held-out image's cloud with the other cloud that it "
        "shares most with, exp(-1/8 sum (m - m')^2 / v - 1/2 sum log(v / (s s'))), v = (s^2 + s'^2) / 2, averaged over "
        "images: 1 for equal clouds, 0 for points."
    ),
    groups=SAMPLED_CODES,
    measures=("centre", "deviation", "overlap", "aggregate_posterior", "rate"),
)


CLAIM_6 = Claim(
    title="Samples are new",
    statement="Draws from the VAE are new images of digits and no copies of training images.",
    rows=(
        Row("distance to the nearest training image, in that of held-out images", "distance", VAE),
        Row("share nearer to training than to held-out images", "nearer_training", VAE),
        Row("share that are near copies", "samples.near_copies", VAE),
        Row("share as sure as data", "sure", VAE),
        Row("recall", "recall", VAE),
    ),
    figure=Figure(
        "nearest",
        "Draws from the VAE, each above its nearest training image",
        "A copied draw would be the picture below it. None of these is.",
    ),
    rules=(
        above("distance", VAE, 1.0, "the VAE's draws are further from training images than held-out images are"),
        below(
            "nearer_training",
            VAE,
            0.6,
            "the VAE's draws prefer training images to held-out ones less than 6 times in 10",
        ),
        below("samples.near_copies", VAE, 0.05, "fewer than 1 in 20 of the VAE's draws is a near copy"),
        above("sure", VAE, 0.5, "more than half of the VAE's draws are as sure as data"),
        above(
            "recall",
            VAE,
            0.5,
            "more than half of the data lies among the VAE's draws (recall): they are not the same few",
        ),
    ),
    method=(
        "Distance: the median over draws of the distance in pixels to the nearest training image, divided by the same "
        "median of held-out images. Soft images are near to everything, so it is below 1 for them too. Nearer to "
        "training: how often the nearest of N training images is nearer than the nearest of N held-out ones; 0.5 for "
        "fresh images and 1 for copies, soft or not. Near copies: the share of draws that prefer a training image as "
        "much as only 1% of fresh images do (the metric `samples`). Garbage is new too, and so is the mean of all "
        "images, which a collapsed decoder draws: read this beside 1."
    ),
    groups=SAMPLED_CODES,
    measures=("distance", "nearer_training", "samples.near_copies", "sure", "recall"),
)


CLAIM_10 = Claim(
    title="The autoencoder against the VAE",
    statement=(
        "A VAE codes an image as a cloud and not a point, puts its clouds where the prior is, can generate, and pays "
        "for it in reconstruction."
    ),
    rows=(
        Row("sigma / sd of z, autoencoder", "relative", AUTOENCODER),
        Row("sigma / sd of z, VAE", "relative", VAE),
        Row("prior's mass near codes, autoencoder", "prior_covered", AUTOENCODER),
        Row("prior's mass near codes, VAE", "prior_covered", VAE),
        Row("Frechet distance, autoencoder", "frechet", AUTOENCODER),
        Row("Frechet distance, VAE", "frechet", VAE),
        Row("distortion, nats, autoencoder", "distortion", AUTOENCODER),
        Row("distortion, nats, VAE", "distortion", VAE),
    ),
    figure=Figure(
        "table",
        "The autoencoder and the VAE: what a code is, where codes lie, what draws are worth, and the price",
        "The VAE has the better of three panels and the autoencoder of the last. Each dot is a seed, each bar a 95% "
        "interval of the mean.",
    ),
    rules=(
        above("relative", VAE, 0.1, "representation: the VAE's codes are clouds (sigma above a tenth of z's sd)"),
        better("overlap", VAE, AUTOENCODER, "structure: the VAE's clouds overlap"),
        better("prior_covered", VAE, AUTOENCODER, "structure: the VAE's codes are where the prior is"),
        better("frechet", VAE, AUTOENCODER, "generation: the VAE's draws are nearer to the data"),
        above("sure", VAE, 0.5, "generation: more than half of the VAE's draws are as sure as data"),
        better("distortion", AUTOENCODER, VAE, "loss: the autoencoder reconstructs better"),
    ),
    method=(
        "The numbers of 1 to 6 side by side. The autoencoder's loss is its distortion. The VAE's is distortion + rate, "
        "an upper bound on -log p(x), which the autoencoder does not have."
    ),
    groups=(AUTOENCODER, VAE),
    measures=(),
)

CLAIMS = (CLAIM_1, CLAIM_2, CLAIM_3, CLAIM_4, CLAIM_5, CLAIM_6, *SAYINGS, CLAIM_10)
