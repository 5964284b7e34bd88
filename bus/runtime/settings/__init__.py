"""The settings of a process: environment variables, read once at start into typed values."""

from bus.runtime.settings.environment import Environment

__all__ = ["Environment"]
