"""Layer 5: the made world, the small models that know it, and the build that makes them."""
