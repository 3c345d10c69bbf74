"""The Repair tab: which words of a prompt caused a harmful reply, and a removable change that undoes their effect."""

from patchlab.ui.repair.repair_tab import RepairTab, build

__all__ = ["RepairTab", "build"]
