"""Small made patches and a forger."""

from patch_fixtures import forge, manifest, patch, place

__all__ = ["forge", "manifest", "patch", "place"]
