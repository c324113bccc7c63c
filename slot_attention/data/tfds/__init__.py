"""TFDS directories: reading, writing and generating CLEVR and MOVi."""
