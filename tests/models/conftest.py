"""Every law is held for every family."""

from model_fixtures import _one_thread, backbone, folder, held, llama, weights

__all__ = ["_one_thread", "backbone", "folder", "held", "llama", "weights"]
