"""What is known of a number that a run is judged by: its unit, which way it is better, what it compares among."""

from collections.abc import Mapping
from dataclasses import dataclass, field

AGREEMENTS = {
    "likelihood": "the likelihood and how the data are binarised: what a nat is of",
    "bound": "Variant.bounds: what the variant's ELBO is a bound of",
    "density": "Variant.density: what importance sampling estimates",
    "binarize": "how the data are binarised: which images others are compared with",
    "labels": "whether labels are given: samples are then of those that the held-out images have",
    "variant": "the variant and its static fields",
    "weights": "the floats of the variant's loss and their schedule",
}
"""What two runs may have to agree in, beside their data, for a number to be one quantity in both."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """How to read a number, and the details that stand beside it ("dci" and "dci.completeness").

    Attributes:
        unit: "nats per image", "latents"; empty for a pure number.
        higher_is_better: None where neither way is better of all else: rate and active units are what distortion is
            paid with, and a decoder that ignores its code is the smoothest.
        details: whether more is better of a detail, by its name ("completeness"). A star stands for names that the
            data or the model decide: "*" for "mig.shape", "informativeness.*" for "dci.informativeness.shape". Details
            that are not there have no direction: counts and standard errors say how a number was made.
        log_density: whether it is of log p(x), which compares only among runs of the same data, binarisation and
            likelihood.
        agreement: what two runs must agree in, beside their data, for it to be one quantity in both: names of
            AGREEMENTS. Empty: the likelihood and the density where it is a log density, and nothing more elsewhere.
        definition: what it is, in a line.
    """

    unit: str = ""
    higher_is_better: bool | None = None
    details: Mapping[str, bool] = field(default_factory=dict)
    log_density: bool = False
    agreement: tuple[str, ...] = ()
    definition: str = ""

    def direction(self, detail: str = "") -> bool | None:
        """Whether more of the number, or of its `detail`, is better; None where neither way is."""
        if not detail:
            return self.higher_is_better
        group, _, _ = detail.rpartition(".")
        return self.details.get(detail, self.details.get(f"{group}.*" if group else "*"))
