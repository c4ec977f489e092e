"""The whole tree, every field with its meaning. Other configs import it and change a few lines.

On the command line: --config=configs/digits.py --config.variant.beta=4 --config.data.name=mnist.
A new name in data, net, likelihood, variant or schedule brings that name's own fields and defaults.
"""

from typing import Any

from ml_collections import ConfigDict

from vae_jax import model


def get_config() -> ConfigDict:
    """The default run: a VAE on scikit-learn's digits."""
    config = ConfigDict()
    config.seed = 0  # decides, with the config, the whole run: weights, order of data, noise
    config.latent_dim = 16

    # digits, mnist, binarized_mnist, fashion_mnist, idx (any data in MNIST's files), tfds (any TFDS image dataset);
    # folder (of PNG, JPEG, WebP: size, crop, channels, broken), arrays (.npy, .npz, HDF5, .mat: images, labels,
    # factors, layout, range), huggingface (save_to_disk or Parquet: images, labels, size, crop, channels, broken);
    # the last three: test (a fraction or a count, held out if they have no test images);
    # with known factors: sprites, scenes (generated: sizes, resolution), dsprites, shapes3d, smallnorb (npz or TFDS),
    # cars3d (its .mat files or an npz).
    # data.path: the folder of the files, or the file, where the dataset takes one.
    # data.split, data.changed: of factors, which images are held out, and how many factors differ in a pair.
    # data.validation: which training images decide what is best, a fraction or a count; 0: nothing is decided.
    # data.binarize: none (grey levels), static (threshold at 1/2), dynamic (a Bernoulli draw at each visit), real
    # (float32 images: numbers of any size, NaN where one is missing).
    # data.flip, data.shift: training images mirrored with p = 1/2, and moved by up to so many pixels, at each visit.
    config.data = section("data", "digits")

    # mlp: hidden (widths), activation, dtype of compute (float32, bfloat16), norm (none, layer), gated (layers times
    # a sigmoid of as many in place of the activation), init (lecun, glorot).
    # conv: hidden (width of the dense layers), activation, dtype; for images of 16 pixels and more.
    # resnet: widths (channels at each scale, each half as wide and high), depth (residual blocks at each), activation,
    # dtype.
    # grid: halvings, width, depth, activation, dtype; latents stay on a grid, 7x7 places for 28 pixels: codes of vq.
    # Layers and counts of all: docs/networks.md.
    config.net = section("net", "mlp")

    # bernoulli, for binarised images. For grey levels (data.binarize none): gaussian (sigma), laplace (width), each
    # with scale fixed, shared (learned, one for all) or pixel (from the decoder), and mean sigmoid (in [0, 1]) or
    # linear; continuous_bernoulli; and for 256 levels discretized_logistic, logistic_mixture (components).
    config.likelihood = section("likelihood", "bernoulli")

    # beta (beta = 1 is the VAE), autoencoder, capacity, tcvae, factor, dip, info, iwae, vamp, realnvp, vq, rae,
    # conditional, ladder, flow, joint, ada: docs/variants.md.
    config.variant = section("variant", "beta")

    # The factor on variant.beta: constant; linear, sigmoid (warm-up over schedule.steps); cyclical.
    config.schedule = section("schedule", "constant")

    config.train = _train()
    config.log, config.evaluation, config.checkpoint = _log(), _evaluation(), _checkpoint()
    config.wandb, config.parallel, config.sweep = _wandb(), _parallel(), _sweep()
    return config


def _train() -> ConfigDict:
    train = ConfigDict()
    train.steps = 10_000
    train.batch_size = 128  # over all devices together
    # adam, adamw, adabelief, adamax, amsgrad, lamb, lion, muon, nadam, radam, rmsprop, schedule_free, sgd, yogi:
    # optax's, its fields at optax's defaults. A rate that suits Adam is far too high for lion (a tenth) and of another
    # scale for sgd.
    train.optimizer = "adam"
    train.learning_rate = 1e-3
    train.weight_decay = 0.0  # of kernels, times the learning rate; with any optimiser but adam, where adamw has it
    train.momentum = 0.9  # of sgd alone
    train.warmup_steps = 0  # the learning rate rises linearly over these; 0 for none
    train.cosine = False  # the learning rate falls as a half cosine to 0 at the last step
    # constant, cosine, warmup_cosine (the cosine begins where the warm-up ends), steps (times schedule_factor at each
    # of schedule_steps), exponential (times schedule_factor over as many steps, smoothly); "": what train.cosine says.
    train.schedule = ""
    train.schedule_steps = ()
    train.schedule_factor = 0.1
    train.clip = 0.0  # the gradient's largest global norm; 0 for no clipping
    train.ema = 0.0  # decay of a moving average of the weights, used in evaluation and samples; 0 for none
    train.patience = 0  # a run ends after this many evaluations in a row that are not better; 0 for no limit
    train.dispatch = 100  # at most this many steps in one compiled call; signals are handled between calls
    return train


def _log() -> ConfigDict:
    log = ConfigDict()
    log.every = 100  # steps; a record is the mean over the compiled call that ends there
    log.pictures = True  # at the end; where W&B or TensorBoard are on, of validation images at each evaluation too
    log.tensorboard = False  # event files beside metrics.jsonl (needs the extra tensorboard)
    return log


def _evaluation() -> ConfigDict:
    evaluation = ConfigDict()
    evaluation.every = 1000  # steps between passes over the whole validation split; the test split is read at the end
    # Draws of each held-out image's noise, of which its terms are means. The draws, and the bits of images that are
    # binarised, are the same for all runs, whatever their seed.
    evaluation.draws = 1
    evaluation.batch_size = 500  # at most, over all devices; only batch-coupled terms depend on it
    evaluation.metrics = ""  # computed after the last step, as in "mig,likelihood:k=5000"; docs/metrics.md
    # The same on the validation split, as "validation.mig": a search uses these. Metrics of a whole grid of factors
    # use that grid.
    evaluation.validation_metrics = ""
    return evaluation


def _checkpoint() -> ConfigDict:
    checkpoint = ConfigDict()
    checkpoint.every = 1000  # steps
    checkpoint.keep = 2  # the newest; the best by validation, of those evaluated, is kept beside them
    return checkpoint


def _wandb() -> ConfigDict:
    wandb = ConfigDict()
    wandb.mode = "disabled"  # disabled, offline, online
    wandb.project = "vae_jax"
    wandb.entity = ""  # empty: W&B's own default, here and below
    wandb.group = ""
    wandb.name = ""
    wandb.tags = ()
    wandb.artifact = False  # send the checkpoints at the end
    return wandb


def _parallel() -> ConfigDict:
    parallel = ConfigDict()
    # auto: data for a single run, members for a population. data: the batch is split over devices, gradients are
    # averaged, members train one after another. members: a population is split over devices.
    parallel.mode = "auto"
    parallel.devices = 0  # how many of this machine's devices, or of each process' of several; 0 for all
    # Where images are. auto: on each device if they fill at most half of its free memory, else on the host. device,
    # host: there. From the host they are read batch by batch while the device works, with the same results.
    parallel.images = "auto"
    parallel.heartbeat = 100  # seconds of silence after which another process counts as lost, and the job ends
    return parallel


def _sweep() -> ConfigDict:
    sweep = ConfigDict()  # for runs that are launched together (docs/sweeps.md)
    sweep.members_per_device = 0  # at once in a program; 0: as many as the memory of a device allows
    sweep.halving = ()  # steps at which the half of the members with the lower validation bound stops
    return sweep


def section(kind: str, name: str, **values: Any) -> ConfigDict:
    """The section `kind` (data, net, likelihood, variant, schedule) for `name`: its own defaults, then `values`."""
    return ConfigDict({**model.defaults(kind, name), **values})
