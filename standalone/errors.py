"""What can go wrong with the stack itself, as sentences for the person at the terminal."""

from __future__ import annotations

from include.errors import LabelwheelError


class StackError(LabelwheelError):
    """The stack cannot do what was asked; the message says what to change."""


class InstallError(StackError):
    """An environment could not be installed. A retry may help when the network was the cause."""


class PortError(StackError):
    """A port is taken, or is not a port. Free it or choose another."""


class ServiceError(StackError):
    """A service did not start or refused us."""
