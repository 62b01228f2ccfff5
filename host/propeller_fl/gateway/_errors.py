"""What is answered when something cannot be done."""

from __future__ import annotations

from propeller_fl.errors import PropellerError


class Refusal(PropellerError):
    """An answer with an HTTP ``status``; ``where`` is the field or parameter at fault, or empty."""

    def __init__(self, status: int, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.where = where
