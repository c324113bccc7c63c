"""Initial slots, and the parameter initialisers of the 2020 code."""

from flax import linen as nn
import jax
import jax.numpy as jnp

# Keras' defaults, which the original code relies on; flax's own default for
# Dense and Conv is lecun_normal.
kernel_init = nn.initializers.glorot_uniform()

# PyTorch's default for linear layers: both in +-1 / sqrt(fan_in).
torch_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
  """Returns an initialiser that draws from U(-bound, bound)."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
    key, shape, dtype, -bound, bound
  )


# PyTorch's kaiming_uniform: of layers before a ReLU in SLATE's code.
relu_kernel_init = nn.initializers.he_uniform()


class GaussianInitializer(nn.Module):
  """Draws slots from one Gaussian shared by all of them (Algorithm 1, line 2).

  Mean and log standard deviation are learned, or given at the call. The number
  of slots is free at every call, since no parameter depends on it, unless each
  slot has a Gaussian of its own.

  Attributes:
    num_slots: slots drawn when a call names no other number.
    slot_size: width d of a slot.
    log_sigma_offset: added to the initial log standard deviation, which the
      original draws around 0. Below 0 the slots start more alike, so that less
      noise reaches a small model's predictions early on.
    per_slot: whether each slot has its own Gaussian (paper A, Figure 9).
    torch_init: whether the Gaussian's parameters start within PyTorch's Glorot
      bound, which is smaller (paper C).
  """

  num_slots: int
  slot_size: int
  log_sigma_offset: float = 0.0
  per_slot: bool = False
  torch_init: bool = False

  @nn.compact
  def __call__(
    self,
    batch_size: int,
    num_slots: int | None = None,
    noise: jax.Array | None = None,
    gaussian: tuple[jax.Array, jax.Array] | None = None,
  ) -> jax.Array:
    """Draws the initial slots.

    Args:
      batch_size: b.
      num_slots: k, or None for the number given to the constructor.
      noise: [b, k, d] standard normal draw that replaces the one from the rng
        stream "slots".
      gaussian: mean and log standard deviation of each image's slots, both
        [b, 1, d], in place of the learned ones.

    Returns:
      [b, k, d] float32 slots, `mu + exp(log_sigma) * noise`.

    Raises:
      ValueError: the noise has another shape than [b, k, d], or slots with
        Gaussians of their own are wanted in another number.
    """
    num_slots = self.num_slots if num_slots is None else num_slots
    if self.per_slot and num_slots != self.num_slots:
      raise ValueError(
        f"{num_slots} slots were asked for, but each of the {self.num_slots} "
        f"has an initialisation of its own; use {self.num_slots}, or train "
        "with model.slot_initialization=shared."
      )
    mu, log_sigma = self._learned() if gaussian is None else gaussian
    shape = (batch_size, num_slots, self.slot_size)
    if noise is None:
      noise = jax.random.normal(self.make_rng("slots"), shape)
    elif noise.shape != shape:
      raise ValueError(
        f"Slot noise has shape {noise.shape}; this call needs [batch_size, "
        f"num_slots, slot_size] = {shape}."
      )
    noise = jnp.asarray(noise, jnp.float32)
    return (
      jnp.broadcast_to(mu, shape)
      + jnp.exp(jnp.broadcast_to(log_sigma, shape)) * noise
    )

  def _learned(self) -> tuple[jax.Array, jax.Array]:
    """Returns mu and log sigma, both [1, 1 or k, d]."""
    # Glorot over [1, 1, d]: fan_in 1, fan_out d, U(-.304, .304) at d = 64.
    # PyTorch takes d for both: U(-.217, .217).
    shape = (1, self.num_slots if self.per_slot else 1, self.slot_size)
    bound = (3.0 / self.slot_size) ** 0.5
    init = symmetric_uniform(bound) if self.torch_init else kernel_init
    mu = self.param("mu", init, shape)
    log_sigma = self.param(
      "log_sigma",
      lambda key, shape: init(key, shape) + self.log_sigma_offset,
      shape,
    )
    return mu, log_sigma


class ZeroInitializer(nn.Module):
  """Zeros, for slot modules that refine nothing; it has no parameters.

  Attributes:
    num_slots: slots returned when a call names no other number.
    slot_size: width d of a slot.
  """

  num_slots: int
  slot_size: int

  @nn.compact
  def __call__(
    self,
    batch_size: int,
    num_slots: int | None = None,
    noise: jax.Array | None = None,
  ) -> jax.Array:
    """Returns zeros [batch_size, k, d]; the noise is not used."""
    num_slots = self.num_slots if num_slots is None else num_slots
    return jnp.zeros((batch_size, num_slots, self.slot_size))
