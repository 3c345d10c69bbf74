"""The made world, the small models that know it, and the build that makes them: `python -m tools.pocket`."""
