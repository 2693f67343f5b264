"""Omokage (面影): data sets of anime faces, generative models trained on them, and honest measurements."""

__version__ = "0.1.0"
