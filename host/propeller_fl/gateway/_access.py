"""Who may ask for which route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException

from propeller_fl.access import AccessRole
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._routes import Operation
from propeller_fl.web import Caller

OPEN_PATHS: Final = ("/health", "/openapi.json")  # say nothing worth a token


@dataclass(frozen=True, slots=True)
class Rules:
    """``guarded``      tokens are asked for; else everybody may do everything
    ``open_routes``  first segments of paths that are for whoever reaches them, to read
    """

    guarded: bool
    open_routes: tuple[str, ...] = ()

    def opens(self, method: str, path: str) -> bool:
        """Whether no token is needed."""
        segments = [segment for segment in path.split("/") if segment not in ("", "fl", "arrays")]
        return method in ("GET", "HEAD") and segments[:1] in ([name] for name in self.open_routes)

    def check(self, op: Operation, caller: Caller | None) -> None:
        """Raises for who may not do this: 401 without a token, 403 with one of another role."""
        if not self.guarded or op.path in OPEN_PATHS:
            return
        if caller is None:
            if not self.opens(op.method, op.path):
                raise HTTPException(401, "a token is wanted", {"www-authenticate": "Bearer"})
        elif caller.role not in (AccessRole.GATEWAY, *op.who) and not self.opens(
            op.method, op.path
        ):
            raise Refusal(403, f"this token is of {caller.name}, who may not do that")

    def speaker(self, op: Operation, caller: Caller | None) -> str:
        """The only proplet that ``caller`` may speak for; empty: any."""
        if caller is None or caller.role != AccessRole.PROPLET:
            return ""
        return "" if self.opens(op.method, op.path) else caller.name

    def trusts(self, caller: Caller | None) -> bool:
        """Whether ``caller`` may see what tasks are given."""
        if caller is None:
            return not self.guarded
        return caller.role in (AccessRole.GATEWAY, AccessRole.OPERATOR)
