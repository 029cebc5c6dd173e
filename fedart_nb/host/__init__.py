"""One host: opens a room, lets people in, runs the rounds, and takes back what somebody withdrew."""

from .host import CLIP_NORM, Host

__all__ = ["CLIP_NORM", "Host"]
