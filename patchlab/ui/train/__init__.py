"""The Train tab: a domain's recipe on the page's model, with a live chart, and the finished patch ticked on the Compare tab."""

from patchlab.ui.train.train_tab import TrainTab, build

__all__ = ["TrainTab", "build"]
