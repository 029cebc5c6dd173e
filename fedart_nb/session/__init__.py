"""One artist: their pictures, their kernel, their two adapters, the room that they are in."""

from .session import Decision, Session

__all__ = ["Decision", "Session"]
