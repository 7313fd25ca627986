"""What interpkern raises: every refusal names the argument, what came, what is accepted and what to do."""


class ShapeError(ValueError):
    """An argument's shape does not fit the others."""


class DTypeError(TypeError):
    """An argument's type or dtype is not one that is accepted."""


class BackendUnavailable(RuntimeError):
    """A backend asked for by name cannot serve this call; the message lists every backend with its reason."""


class MissingExtra(ImportError):
    """A call needs a package that one of interpkern's extras brings; the message says which."""
