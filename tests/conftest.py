"""Shared settings of the test suite."""

from __future__ import annotations

import os

# One thread: tiny networks gain nothing from more, and a shared machine loses a lot to oversubscription.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for a hub

import cv2
import torch

torch.set_num_threads(1)
cv2.setNumThreads(1)
