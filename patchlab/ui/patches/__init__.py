"""The Patches tab: what is installed, what its makers measured, whether its files are intact, and how more gets here."""

from patchlab.ui.patches.patches_tab import PatchesTab, build

__all__ = ["PatchesTab", "build"]
