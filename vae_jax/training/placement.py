"""Where the images of a split lie: on each device, or on the host, from where they are read as they are needed."""

from vae_jax.data import Split
from vae_jax.data._splits import held_split, host_split, on_host
from vae_jax.errors import UserError
from vae_jax.training.executors import Devices, agreed_free_bytes
from vae_jax.typing import Config

LARGEST_SHARE = 0.5
"""Of the memory that is free on a device, what the images of a split may fill at most."""


def place(split: Split, config: Config, devices: Devices) -> Split:
    """The split with its images in memory, to be put on each of the devices, or on the host; numbers are the same.

    `config.parallel.images` says which: device, host, or auto: on a device what fills at most half of its free memory.

    Raises:
        UserError: where images that a device makes were to be read on the host, or more than fit to lie on a device.
    """
    return held_split(split) if fits_devices(split, config, devices) else host_split(split)


def fits_devices(split: Split, config: Config, devices: Devices) -> bool:
    """Whether the images of a split are to lie on each of the devices. Raises UserError as `place` does."""
    word, host = dict(config["parallel"].items()).get("images", "auto"), host_split(split)
    if not on_host(host):
        if word == "host":
            raise UserError(
                f"config.parallel.images: 'host' is not allowed; images of data.name={config['data']['name']!r} are "
                "made on the device; give auto or device"
            )
        return True
    size, free = host.fetch.nbytes, agreed_free_bytes(devices)  # type: ignore[attr-defined]
    if word == "device" and size > free:
        raise UserError(
            f"config.parallel.images: 'device' is not allowed; {split.size:,} images take {size / 2**30:,.1f} GiB of "
            f"each device, and {free / 2**30:,.1f} GiB are free; give auto or host"
        )
    return word == "device" or (word == "auto" and size <= LARGEST_SHARE * free)
