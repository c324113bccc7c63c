"""What `python -m slot_attention.benchmark` counts and measures with."""
