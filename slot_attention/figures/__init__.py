"""What runs look like: pictures, animations, curves and a page."""
