"""Every error this package raises."""


class ArgillaSqliteError(Exception):
    """Base of all errors of this package."""


class UnsupportedVersionError(ArgillaSqliteError):
    """Something installed is not the version this package was written against. A retry will not help."""


class ConfigurationError(ArgillaSqliteError):
    """A setting makes the engine impossible to run. A retry will not help; change the setting."""


class InvalidSearchError(ArgillaSqliteError, ValueError):
    """The caller's search cannot be answered as asked. Argilla turns a ValueError into HTTP 422 with this message."""
