"""Packages slot_attention; `pip install -e ".[test]"` for development."""

import pathlib
import re

import setuptools
from setuptools.command import sdist

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
  r'^__version__ = "(.+)"$',
  (_ROOT / "slot_attention" / "__init__.py").read_text(encoding="utf-8"),
  re.MULTILINE,
).group(1)


class SourceDistribution(sdist.sdist):
  """Adds what is no package: configs, launchers, tests and notes."""

  def make_distribution(self):
    for pattern in ("configs/*.py", "launch/*", "tests/**/*", "*.md"):
      files = [path for path in _ROOT.glob(pattern) if path.is_file()]
      self.filelist.extend(
        str(path.relative_to(_ROOT))
        for path in files
        if "__pycache__" not in path.parts
      )
    super().make_distribution()


setuptools.setup(
  cmdclass={"sdist": SourceDistribution},
  # PyPI's slot_attention is another project; only the import is called so.
  name="slot-attention-jax",
  version=_VERSION,
  description="Slot Attention in JAX/Flax, faithful to the original code.",
  long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=setuptools.find_packages(include=["slot_attention*"]),
  python_requires=">=3.11",
  # Lower bounds are the versions that the tests passed with; the upper ones
  # stop before releases that nobody has tried.
  install_requires=[
    "absl-py>=2.5",
    "clu>=0.0.12",
    "flax>=0.12.8,<0.13",
    "google-crc32c>=1.9",  # Checksums of TFRecords.
    "indexed-gzip>=1.10",  # Random access to the published files.
    "importlib_resources>=7.1",  # TFDS needs it to prepare CLEVR.
    "jax>=0.10.2,<0.11",
    "matplotlib>=3.11",  # Figures of grids only.
    "ml-collections>=1.1",
    "numpy>=2.4",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "pillow>=13",
    "scipy>=1.17",
    "tensorboard>=2.21",
    "tensorflow>=2.21,<2.22",
    "tensorflow-datasets>=4.9.10,<4.10",
  ],
  extras_require={
    "cuda": ["jax[cuda13]>=0.10.2,<0.11"],
    "tpu": ["jax[tpu]>=0.10.2,<0.11"],
    "test": ["pytest>=9.2", "pytest-xdist>=3.8", "ruff>=0.17.5,<0.18"],
  },
  classifiers=[
    "Programming Language :: Python :: 3",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)
