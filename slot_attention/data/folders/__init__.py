"""Image folders in the layouts that users download."""
