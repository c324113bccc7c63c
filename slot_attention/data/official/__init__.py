"""The Multi-Object Datasets as published: what they hold and how to read it."""
