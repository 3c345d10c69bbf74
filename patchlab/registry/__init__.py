"""Layer 2: the patches at hand: found in folders, looked up by name and version, installed from elsewhere."""

from patchlab.registry.index import Installed, Registry, default_registry, install, lookup

__all__ = ["Installed", "Registry", "default_registry", "install", "lookup"]
