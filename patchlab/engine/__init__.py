"""Layer 3: applies stacks as attention masks and decodes the rows of any number of requests in one batch."""

from patchlab.engine.forward_rows import blend, normalised, parallel
from patchlab.engine.lab import Lab, load
from patchlab.engine.lanes import Lane, finished, fixed, replies, stream
from patchlab.engine.plan import BARE, PlannedPatch, Planner, StackPlan
from patchlab.engine.sampler import Sampling
from patchlab.engine.scheduler import Scheduler, scheduler_of
from patchlab.engine.segments import Bank, Segment, compile_prefix

__all__ = ["BARE", "Bank", "Lab", "Lane", "PlannedPatch", "Planner", "Sampling", "Scheduler", "Segment", "StackPlan", "blend",
           "compile_prefix", "finished", "fixed", "load", "normalised", "parallel", "replies", "scheduler_of", "stream"]
