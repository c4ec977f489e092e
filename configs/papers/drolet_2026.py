"""Drolet et al. 2026, table 1: discrete codes of 64 bits on binarised MNIST, learned (VQ) and fixed (FSQ).

Command    python -m experiments.reproduce --only=codes --mnist=FOLDER
           (one run: python -m experiments.train --config=configs/papers/drolet_2026.py:vq)
Protocol   Eight codes of 256 (VQ) or of levels 8, 6, 5 (FSQ: 240), batches of 256, AdamW at 3e-4, gradients clipped to
           norm 1, 250,000 steps of a convolutional net; PSNR of the reconstructions of test images, dB.
Deviates   784-512-256 and its mirror, ReLU, 5,000 steps at a rate from 1e-3 to 0 as a half cosine, pixels thresholded
           at one half (how the paper binarises them is not known here); PSNR of the decoded probabilities against the
           bits, the mean over images. With pixels drawn anew at each visit, whose noise no code holds, VQ has 16.09 dB
           (three seeds).
Paper      PSNR, dB: VQ-VAE 18.45, FSQ 18.42.
Measured   vq: 17.34 dB (3 seeds, 17.27 to 17.40): worse by 1.11 dB
           fsq: 16.04 dB (3 seeds, 15.22 to 16.87): worse by 2.38 dB
           A fiftieth of the steps, and no convolutions.
"""

from vae_jax.config import defaults

GROUPS = 8


def get_config(quantizer: str = "vq"):
    """The quantizer: vq or fsq."""
    config = defaults.get_config()
    config.data = defaults.section("data", "mnist", binarize="static")
    config.net = defaults.section("net", "mlp", hidden=(512, 256))
    config.variant = defaults.section("variant", "vq", quantizer=quantizer, codes=256, dim=4, prior="uniform")
    config.latent_dim = GROUPS * 4
    if quantizer == "fsq":
        config.variant.levels = (8, 6, 5)
        config.latent_dim = GROUPS * 3
    config.train.steps = 5000
    config.train.batch_size = 256
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    config.train.clip = 1.0
    config.log.every = 500
    config.evaluation.every = config.checkpoint.every = 1000
    return config
