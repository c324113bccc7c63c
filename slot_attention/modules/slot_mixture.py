"""The Slot Mixture Module (paper B, Algorithm 1) and its published variants.

Slots are the means and variances of a Gaussian mixture over the inputs. The
published code (AIRI-Institute/smm) computes something else than the paper says;
`Options` tells the differences one by one, and `VARIANTS` names the sets.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import gru
from slot_attention.modules import iteration
from slot_attention.modules import mixture
from slot_attention.modules import mlp
from slot_attention.modules import slot_attention

# What the switches of `Options` can be, where they are names.
CHOICES = {
  "values_from": ("inputs", "keys", "projection"),
  "norm_slots": ("none", "queries", "state"),
  "log_density": ("gaussian", "distance"),
  "content": ("variance", "log_sigma"),
  "output": ("matrix", "mlp", "none"),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What differs between the paper and its published code.

  The defaults are the paper's Algorithm 1.

  Attributes:
    detach_prior: whether `gradient="last"` makes a constant of the prior, too.
    norm_inputs: LayerNorm of the inputs. Algorithm 1 normalises them in line 1,
      which is the end of the image encoder.
    values_from: what means and variances are taken of: the "inputs" (Algorithm
      1), their "keys", or a "projection" of their own.
    norm_slots: LayerNorm of [mean, log sigma]: "none" (Algorithm 1), of the
      "queries", or of the "state", which the GRU then continues from.
    project_sigma: whether the query's matrix is applied to log sigma as well.
    log_density: "gaussian", or the negative squared "distance" in units of
      sigma, without 1/2 and normalisation.
    scale_logits: divide them by sqrt(d).
    density_floor: added to exp(logits), where it is not 0.
    update_prior: estimate the prior; it stays uniform otherwise.
    content: what stands beside the mean in a slot: "variance" (Algorithm 1) or
      "log_sigma".
    output: how 2 d becomes d: a "matrix" (section 4), an "mlp", or "none".
    transformer_blocks: of an `InputTransformer` before the module; 0 for none.
  """

  detach_prior: bool = False
  norm_inputs: bool = False
  values_from: str = "inputs"
  norm_slots: str = "none"
  project_sigma: bool = False
  log_density: str = "gaussian"
  scale_logits: bool = False
  density_floor: float = 0.0
  update_prior: bool = True
  content: str = "variance"
  output: str = "matrix"
  transformer_blocks: int = 0


_FAIR = Options(
  norm_inputs=True,
  values_from="keys",
  norm_slots="state",
  project_sigma=True,
  log_density="distance",
  density_floor=1e-8,
  content="log_sigma",
  output="mlp",
)
# fair: the class FairGMM of the published code, the nearest to the paper.
# released: the class that the published weights belong to. Its prior stays
# uniform, and a transformer says where slots start.
VARIANTS = {
  "paper": Options(),
  "fair": _FAIR,
  "released": dataclasses.replace(
    _FAIR,
    values_from="projection",
    scale_logits=True,
    update_prior=False,
    transformer_blocks=2,
  ),
}


class SlotMixture(nn.Module):
  """Iterated expectation and maximisation with learned projections.

  Attributes:
    slot_size: width d of means, keys and queries, and of the resulting slots.
    mlp_hidden_size: width of the residual MLP of the means.
    num_iterations: t, when a call names no other number.
    epsilon: added to the variances.
    layer_norm_epsilon: of the LayerNorms here; PyTorch's is 1e-5.
    gradient: "all" iterations, or the "last" one only, as in the paper: means
      and variances are constants before it.
    options: see `Options`.
    remat: recompute each iteration in the backward pass.
    dtype: type of matrix products; all statistics are float32.
  """

  slot_size: int = 64
  mlp_hidden_size: int = 128
  num_iterations: int = 5
  epsilon: float = 1e-8
  layer_norm_epsilon: float = mlp.LAYER_NORM_EPSILON
  gradient: str = "last"
  options: Options = Options()
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    slots: jax.Array,
    num_iterations: int | None = None,
    train: bool = False,
  ) -> slot_attention.SlotOutput:
    """Fits the mixture.

    Args:
      inputs: [b, n, c] input features.
      slots: [b, k, 2 d] initial means and log sigmas; k is free.
      num_iterations: t >= 1, or None for the number given to the constructor.
      train: unused; every slot module takes it.

    Returns:
      SlotOutput; attention holds the responsibilities. Slots have 2 d entries
      where `output` is "none".

    Raises:
      ValueError: fewer than one iteration is asked for, or the inputs, being
        the values, are not d wide.
    """
    del train
    if self.options.norm_inputs:
      inputs = mlp.layer_norm("norm_inputs", self.layer_norm_epsilon)(inputs)
    keys = mlp.matrix(self.slot_size, self.dtype, "project_k")(inputs)
    step_class = nn.remat(_Iteration) if self.remat else _Iteration
    step = step_class(
      self.slot_size,
      self.mlp_hidden_size,
      self.epsilon,
      self.layer_norm_epsilon,
      self.options,
      self.dtype,
      name="iteration",
    )
    values = self._values(inputs, keys)
    attention, contents = iteration.refine(
      lambda components: step(components, keys, values),
      mixture.Components.from_slots(slots),
      self.num_iterations if num_iterations is None else num_iterations,
      self._detach if self.gradient == "last" else None,
    )
    slots = self._reduce(contents)
    return slot_attention.SlotOutput(slots[:, -1], attention, slots)

  def _values(self, inputs: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns what means and variances are taken of, [b, n, d]."""
    if self.options.values_from == "projection":
      return mlp.matrix(self.slot_size, self.dtype, "project_v")(inputs)
    if self.options.values_from == "keys":
      return keys
    check_width(inputs, self.slot_size)
    return inputs

  def _detach(self, components: mixture.Components) -> mixture.Components:
    detached = jax.lax.stop_gradient(components)
    if self.options.detach_prior:
      return detached
    return detached.replace(log_prior=components.log_prior)

  def _reduce(self, contents: jax.Array) -> jax.Array:
    """[b, t, k, 2 d] -> [b, t, k, d]."""
    name = "project_output"
    if self.options.output == "none":
      return contents
    if self.options.output == "matrix":
      slots = mlp.matrix(self.slot_size, self.dtype, name)(contents)
    else:
      hidden_size = 2 * self.mlp_hidden_size
      slots = mlp.MLP(hidden_size, self.slot_size, self.dtype, name=name)(
        contents
      )
    return slots.astype(jnp.float32)


class _Iteration(nn.Module):
  """One E and one M step (Algorithm 1, lines 3-10)."""

  slot_size: int
  mlp_hidden_size: int
  epsilon: float
  layer_norm_epsilon: float
  options: Options
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, components: mixture.Components, keys: jax.Array, values: jax.Array
  ) -> tuple[mixture.Components, jax.Array, jax.Array]:
    """Returns next components, responsibilities [b, k, n], slots [b, k, 2d]."""
    options = self.options
    normalized = self._normalize(components)
    log_gammas = mixture.log_responsibilities(
      self._logits(normalized, keys), components.log_prior
    )
    log_weights, log_shares = mixture.log_weights(log_gammas)
    weights = jnp.exp(log_weights)
    state = normalized if options.norm_slots == "state" else components
    means = iteration.weigh(weights, values, self.dtype)
    means = gru.GRUCell(self.dtype, name="gru")(state.mean, means)
    means = means + self._residual(means)
    variances = mixture.weighted_variance(weights, values, means)
    components = mixture.Components(
      means,
      0.5 * jnp.log(variances + self.epsilon),
      log_shares if options.update_prior else components.log_prior,
    )
    spread = getattr(components, options.content)
    slots = jnp.concatenate([means, spread], axis=-1)
    return components, jnp.exp(log_gammas), slots

  def _normalize(self, components: mixture.Components) -> mixture.Components:
    """Returns the components that the E step sees."""
    if self.options.norm_slots == "none":
      return components
    slots = [components.mean, components.log_sigma]
    norm = mlp.layer_norm("norm_slots", self.layer_norm_epsilon)
    mean, log_sigma = jnp.split(norm(jnp.concatenate(slots, -1)), 2, axis=-1)
    return components.replace(mean=mean, log_sigma=log_sigma)

  def _logits(
    self, components: mixture.Components, keys: jax.Array
  ) -> jax.Array:
    """Returns [b, k, n] (line 3)."""
    options = self.options
    query = mlp.matrix(self.slot_size, self.dtype, "project_q")
    means, log_sigmas = query(components.mean), components.log_sigma
    if options.project_sigma:
      log_sigmas = query(log_sigmas)
    if options.log_density == "gaussian":
      logits = mixture.gaussian_log_density(keys, means, log_sigmas)
    else:
      logits = -mixture.scaled_distances(keys, means, log_sigmas)
    if options.scale_logits:
      logits = logits * self.slot_size**-0.5
    if options.density_floor:
      logits = jnp.logaddexp(logits, jnp.log(options.density_floor))
    return logits

  def _residual(self, means: jax.Array) -> jax.Array:
    """Returns what the MLP adds to the means (line 8)."""
    norm = mlp.layer_norm("norm_mlp", self.layer_norm_epsilon)
    residual = mlp.MLP(
      self.mlp_hidden_size, self.slot_size, self.dtype, name="mlp"
    )(norm(means))
    return residual.astype(jnp.float32)


def check_width(inputs: jax.Array, slot_size: int) -> None:
  """Raises unless inputs and slots live in the same space.

  Args:
    inputs: [b, n, c].
    slot_size: d.

  Raises:
    ValueError: c is not d.
  """
  if inputs.shape[-1] != slot_size:
    raise ValueError(
      f"Inputs have {inputs.shape[-1]} features and slots {slot_size}; without "
      "a projection of the values both must be the same."
    )
