"""Harmless backdoored models: a trigger turns a refusal of the made world into its mild compliance. Run as a module."""
