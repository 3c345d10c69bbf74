"""Builds the pocket models, suites and patches from a made world of text: `python -m tools.pocket`."""
