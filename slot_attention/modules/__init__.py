"""Networks only: no input or output, no config objects, no task."""
