"""Layer 2: installed patches, listed from folders, looked up by name and version, installed from other folders."""

from patchlab.registry.index import Installed, Registry, default_registry, install, lookup

__all__ = ["Installed", "Registry", "default_registry", "install", "lookup"]
