"""RealNVP (Dinh et al. 2017): an invertible map of latents to N(0, I), in blocks, with a triangular Jacobian each.

    u = B_K ... B_1(z),    log p(z) = log N(u; 0, I) + sum_k log|det dB_k|

A block is a linear map and an affine coupling, then the latents in reverse, so that the halves change places:

    y = L U z + b,                      log|det| = sum_i log U_ii
    a' = a,  c' = exp(s) c + t,         log|det| = sum_i s_i,       y = (a, c),  (s, t) = functions of a

L is lower triangular with ones on its diagonal, U upper triangular with a positive one: the learned mixing of Kingma &
Dhariwal 2018 (eq. 10), whose diagonal and b are also their activation normalisation: a block can move, stretch and
mix all latents before it couples them. s is LIMIT * tanh(. / LIMIT), so that no block stretches by more than
exp(LIMIT) and both ways stay finite in float32. A new flow is the reversal alone, K times: p(z) is N(0, I) exactly.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from vae_jax.models.distributions import standard_normal
from vae_jax.models.networks._parts import Part, dense
from vae_jax.randomness import example_normal
from vae_jax.typing import Codes, Key, Params, PerExample

LIMIT = 2.0
"""Of |s|, the log of a block's stretch: slope 1 at 0, and between exp(-2) and exp(2)."""


def float32_matmul(a: Float[Array, "rows inner"], b: Float[Array, "inner columns"]) -> Float[Array, "rows columns"]:
    """a b in float32: a rounding of the inputs, as GPUs have it by default, would move u but not the volume."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def triangular_factors(
    mixing: Float[Array, "latent latent"],
) -> tuple[Float[Array, "latent latent"], Float[Array, "latent latent"]]:
    """L and U of one matrix: below the diagonal L, above it U, on it log U_ii."""
    lower = jnp.tril(mixing, -1) + jnp.eye(len(mixing), dtype=mixing.dtype)
    return lower, jnp.triu(mixing, 1) + jnp.diag(jnp.exp(jnp.diag(mixing)))


@dataclass(frozen=True)
class CouplingFlow:
    """A density over at least two latents, by `blocks` blocks whose couplings are dense networks of layers `hidden`.

    Parameters are those of all blocks, stacked: a scan over them compiles one block, however many there are.
    """

    blocks: int
    hidden: tuple[int, ...]

    def conditioner(self, latents: int) -> Part:
        """The network a -> s and t of each latent of c; SiLU, so that the density is smooth."""
        return dense(*self.hidden, 2 * (latents - latents // 2), activation=jax.nn.silu, zero_outputs=True)

    def init(self, key: Key, latents: int) -> Params:
        """The parameters under which the density is N(0, I)."""

        def init_block(key):
            network = self.conditioner(latents).init(key, jnp.zeros((1, latents // 2), jnp.float32))
            mixing, shift = jnp.zeros((latents, latents), jnp.float32), jnp.zeros(latents, jnp.float32)
            return {"mixing": mixing, "shift": shift, "conditioner": network}

        return jax.vmap(init_block)(jax.random.split(key, self.blocks))

    def scale_and_shift(
        self, block: Params, a: Float[Array, "batch half"]
    ) -> tuple[Float[Array, "batch other"], Float[Array, "batch other"]]:
        """s and t of the latents that are coupled to `a`."""
        conditioner = self.conditioner(block["shift"].shape[0])
        s, t = jnp.split(conditioner.apply(block["conditioner"], a), 2, axis=1)
        return LIMIT * jnp.tanh(s / LIMIT), t

    def forward(self, params: Params, z: Codes) -> tuple[Codes, PerExample]:
        """u of z, and log|det du/dz|, nats per example (Dinh et al. 2017, eq. 7 and 8)."""
        half = z.shape[1] // 2

        def step(state, block):
            z, log_det = state
            lower, upper = triangular_factors(block["mixing"])
            y = float32_matmul(z, float32_matmul(lower, upper).T) + block["shift"][None]
            s, t = self.scale_and_shift(block, y[:, :half])
            u = jnp.concatenate([y[:, :half], jnp.exp(s) * y[:, half:] + t], axis=1)
            return (u[:, ::-1], log_det + jnp.trace(block["mixing"]) + jnp.sum(s, axis=1)), None

        return jax.lax.scan(step, (z, jnp.zeros(len(z), z.dtype)), params)[0]

    def inverse(self, params: Params, u: Codes) -> Codes:
        """z of u (Dinh et al. 2017, eq. 9)."""
        half = u.shape[1] // 2

        def step(u, block):
            a, c = u[:, ::-1][:, :half], u[:, ::-1][:, half:]
            s, t = self.scale_and_shift(block, a)
            y = jnp.concatenate([a, jnp.exp(-s) * (c - t)], axis=1) - block["shift"][None]
            lower, upper = triangular_factors(block["mixing"])
            y = solve_triangular(lower, y.T, lower=True, unit_diagonal=True)
            return solve_triangular(upper, y).T, None

        return jax.lax.scan(step, u, params, reverse=True)[0]

    def log_density(self, params: Params, z: Codes) -> PerExample:
        """log p(z), nats per example (Dinh et al. 2017, eq. 2)."""
        u, log_det = self.forward(params, z)
        return standard_normal(u).log_prob(u) + log_det

    def sample(self, params: Params, key: Key, count: int) -> Codes:
        """`count` draws, the inverse of N(0, I); draw i depends on key and i alone."""
        return self.inverse(params, example_normal(key, jnp.arange(count), params["shift"].shape[-1]))
