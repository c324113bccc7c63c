"""The work of one product of matrices, or of one convolution."""

import math
from typing import Any, NamedTuple

import jax
from jax.extend import core

PRODUCTS = ("dot_general", "conv_general_dilated")


class Work(NamedTuple):
  """What a computation needs.

  Attributes:
    flops: floating point operations.
    num_bytes: operands and results of all products, each moved once.
  """

  flops: float = 0.0
  num_bytes: float = 0.0

  def plus(self, other: "Work") -> "Work":
    """Returns the sum of both."""
    return Work(self.flops + other.flops, self.num_bytes + other.num_bytes)

  def times(self, factor: float) -> "Work":
    """Returns the work of doing it so many times."""
    return Work(self.flops * factor, self.num_bytes * factor)


def tree_bytes(tree: Any) -> int:
  """Returns the bytes of all arrays, or shapes, of a tree."""
  return sum(
    math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )


def of_product(equation: core.JaxprEqn) -> Work:
  """Counts an equation whose primitive is one of `PRODUCTS`.

  Args:
    equation: of a jaxpr.

  Returns:
    Two operations for each multiplication and addition.
  """
  left, right = (v.aval for v in equation.invars)
  (result,) = (v.aval for v in equation.outvars)
  dimensions = equation.params["dimension_numbers"]
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = dimensions
    terms = math.prod(left.shape[axis] for axis in contracted)
  else:
    # Entries of a kernel per output channel, without those that meet the zeros
    # put between inputs; the margin that pads an image is counted.
    terms = math.prod(right.shape) / right.shape[dimensions.rhs_spec[0]]
    terms /= math.prod(equation.params["lhs_dilation"])
  return Work(
    2.0 * math.prod(result.shape) * terms, tree_bytes((left, right, result))
  )
