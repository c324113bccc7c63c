"""Sources of batches: real data sets and procedural ones."""
