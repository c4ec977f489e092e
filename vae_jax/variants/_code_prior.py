"""Priors over groups of discrete codes: uniform, and the tree that is fitted once a run has trained."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vae_jax.errors import UserError
from vae_jax.randomness import example_keys
from vae_jax.typing import Key, Params, PerExample
from vae_jax.variants import Index

LARGEST_PRIOR = 2**26
"""Numbers in the prior's tables; Adam's moments are twice as many again."""
STRENGTHS = np.geomspace(0.01, 1e4, 25)
"""Of the smoothing of counts: from next to none to the distribution that stands behind them."""


def uniform_prior(groups: int, size: int) -> Params:
    """The prior before anything is fitted: all codes equally likely, no group knowing of another.

    Groups in the `order` they are drawn, the `parent` of each (its own for the root) and `table`, the
    log-probabilities (groups, code of the parent, code). Numbers of groups are floats: integers have no gradient.
    """
    numbers = jnp.arange(groups, dtype=jnp.float32)
    return {"order": numbers, "parent": numbers, "table": jnp.full((groups, size, size), -math.log(size), jnp.float32)}


def log_probability(prior: Params, index: Index) -> PerExample:
    """sum_g log p(code_g | code_parent(g)), nats."""
    order, parent, table = unpack(prior)
    return jnp.sum(table[order[None], index[:, parent[order]], index[:, order]], axis=1)


def sample_codes(prior: Params, key: Key, count: int) -> Int[Array, "count groups"]:
    """`count` draws of all groups' codes, each group after its parent; draw i depends on key and i alone."""
    order, parent, table = unpack(prior)

    def draw(key):
        noise = jax.random.gumbel(key, table.shape[:2], jnp.float32)

        def visit(index, group):
            code = jnp.argmax(table[group, index[parent[group]]] + noise[group])
            return index.at[group].set(code.astype(jnp.int32)), None

        return jax.lax.scan(visit, jnp.zeros(len(order), jnp.int32), order)[0]

    return jax.vmap(draw)(example_keys(key, jnp.arange(count)))


def unpack(prior: Params) -> tuple[Int[Array, " groups"], Int[Array, " groups"], Float[Array, "groups size size"]]:
    """Order, parents and table, group numbers as integers."""
    order, parent = (jnp.round(jnp.asarray(prior[name])).astype(jnp.int32) for name in ("order", "parent"))
    return order, parent, jnp.asarray(prior["table"])


def chow_liu(index: Int[np.ndarray, "n groups"], size: int) -> Params:
    """The tree of largest likelihood for n rows of codes below `size`, as `uniform_prior` lays out a prior.

    A maximum spanning tree of the mutual information of each pair of groups (Chow & Liu 1968), drawn from group 0 on;
    p(code | parent) is smoothed towards p(code), and that towards the uniform.
    """
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
    from sklearn.metrics import mutual_info_score

    information = np.zeros((index.shape[1],) * 2)
    for a, b in itertools.combinations(range(index.shape[1]), 2):
        information[a, b] = information[b, a] = mutual_info_score(index[:, a], index[:, b])
    # A weight of 0, which the pair that tells most would have without the 1, is no edge to scipy.
    tree = minimum_spanning_tree(1 + information.max() - information)
    order, parent = breadth_first_order(tree, 0, directed=False)
    parent[0] = 0
    uniform = np.full(size, 1 / size)
    marginals = [smoothed(np.bincount(code, minlength=size)[None], uniform)[0] for code in index.T]

    def conditional(group):
        joint = np.bincount(index[:, parent[group]] * size + index[:, group], minlength=size**2)
        return smoothed(joint.reshape(size, size), marginals[group])

    table = [np.tile(marginals[0], (size, 1)), *map(conditional, range(1, len(parent)))]
    return {"order": np.float32(order), "parent": np.float32(parent), "table": np.float32(np.log(table))}


def smoothed(counts: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """(n_ab + s fallback_b) / (n_a + s), rows of probabilities close to `fallback` where counts are few.

    The strength s is that of STRENGTHS under which each count is most likely given the others (leave one out).
    """
    total, seen = counts.sum(axis=1, keepdims=True), counts > 0

    def likelihood(s):
        left_out = (counts - seen + s * fallback) / (np.maximum(total - 1, 0) + s)
        return np.sum(counts * np.log(left_out, where=seen, out=np.zeros(counts.shape)))

    s = max(STRENGTHS, key=likelihood)
    return (counts + s * fallback) / (total + s)


@dataclass(frozen=True)
class TreePrior:
    """p(code) = prod_g p(code_g | code_parent(g)): uniform while a run trains, then `chow_liu` of its codes."""

    size: int
    fits: ClassVar[bool] = True

    def check(self, groups: int) -> None:
        """Raises UserError where the tables would be too large."""
        numbers = groups * self.size**2
        if numbers > LARGEST_PRIOR:
            raise UserError(
                f"variant.codes: {self.size} of them are not allowed; the prior of {groups} groups would have "
                f"{numbers:,} numbers, of at most {LARGEST_PRIOR:,}; take fewer, or config.variant.prior='uniform'"
            )

    def init(self, groups: int) -> Params:
        """`uniform_prior` as a tree."""
        return uniform_prior(groups, self.size)

    def log_probability(self, prior: Params, index: Index) -> PerExample:
        """The tree's, nats."""
        return log_probability(prior, index)

    def sample(self, prior: Params, key: Key, count: int, groups: int) -> Int[Array, "count groups"]:
        """Draws from the tree."""
        return sample_codes(prior, key, count)

    def fit(self, index: Int[np.ndarray, "n groups"]) -> Params:
        """`chow_liu` of the rows of codes."""
        return chow_liu(index, self.size)


@dataclass(frozen=True)
class UniformPrior:
    """p(code) = 1 / size for each group: nothing is fitted and nothing kept, however many codes there are."""

    size: int
    fits: ClassVar[bool] = False

    def check(self, groups: int) -> None:
        """Any number of groups will do."""

    def init(self, groups: int) -> Params:
        """No parameters."""
        return {}

    def log_probability(self, prior: Params, index: Index) -> PerExample:
        """-groups * log(size) for each example, nats."""
        return jnp.full(len(index), -index.shape[1] * math.log(self.size), jnp.float32)

    def sample(self, prior: Params, key: Key, count: int, groups: int) -> Int[Array, "count groups"]:
        """Codes drawn alike; draw i depends on key and i alone."""
        keys = example_keys(key, jnp.arange(count))
        return jax.vmap(lambda key: jax.random.randint(key, (groups,), 0, self.size, jnp.int32))(keys)

    def fit(self, index: Int[np.ndarray, "n groups"]) -> Params:
        """No parameters."""
        return {}


Prior = TreePrior | UniformPrior
PRIORS: dict[str, type[Prior]] = {"tree": TreePrior, "uniform": UniformPrior}
