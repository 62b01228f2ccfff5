"""Every error this package raises on purpose, split by what the caller can do about it.

    PropellerError
    ├── ConfigError       a setting is wrong: mend the file, variable or flag it names
    ├── MessageError      bytes from the wire are refused: tell the sender, go on
    │   └── TensorError   … because its arrays are not what the round needs
    ├── LinkError         the broker cannot be reached or refused us: wait or mend the address
    │   └── BrokerError   the embedded broker did not start or died
    ├── StoreError        the disk or database did not do its part: mend it and retry
    ├── LostLeadError     another process may own what we wrote to: stop, and wait for our turn
    ├── DamagedStoreError what a store holds cannot be trusted any more: stop, and restore it
    ├── ModuleError       a Wasm module cannot be run as it is: mend the module
    │   ├── ContractError   … it breaks the client contract (imports, exports, memory)
    │   ├── ModuleExit      … it ended with a non-zero status, its own words on stderr
    │   ├── ModuleTrap      … it trapped
    │   └── LimitExceeded   … it ran into a limit (instructions, time, memory, output)
    ├── StrategyError     an aggregation strategy cannot do what is asked: mend its arguments
    │   └── UnknownStrategyError … there is none of that name
    ├── ImageError        a module's bytes cannot be had, or are not the ones that were asked for
    │   ├── RegistryError   … because a registry does not answer, or not now: try again
    │   └── SignatureError  … or nobody who is trusted has signed them
    ├── KeyFileError      a key, or the place of trusted ones, is not fit for use: mend that
    └── RequestError      an operator asked for what cannot be done (unknown round, no model)

Every message says what was wrong and where; ``hint``, where there is one, says what to try.
"""

from __future__ import annotations


class PropellerError(Exception):
    """Base of all errors raised on purpose.

    ``hint`` is one sentence that says what to try, or empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigError(PropellerError):
    """A setting is missing, mistyped or out of range."""


class MessageError(PropellerError):
    """Bytes from the wire do not hold the message they should.

    ``reason`` is a short stable code, used in acknowledgements and as a metric label;
    ``field`` names the offending field, or is empty when the whole document is bad.
    """

    def __init__(self, reason: str, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.field = field


class TensorError(MessageError):
    """Arrays are missing, unexpected, of the wrong shape, or not finite."""


class LinkError(PropellerError):
    """The MQTT broker cannot be reached, refused the session, or a request timed out."""


class BrokerError(LinkError):
    """The embedded broker did not start, or died."""


class StoreError(PropellerError):
    """The disk or the database did not take or give back what it should."""


class LostLeadError(PropellerError):
    """Another process may write to the database now, and what is in memory here may be old. Nothing
    more may be written or said: no :class:`StoreError`, so that nobody who retries does."""


class DamagedStoreError(PropellerError):
    """A store's own bytes are not what was written there. Trying again would not help, and going
    on might make a wrong model of them: no :class:`StoreError`, so that nobody who retries does."""


class ModuleError(PropellerError):
    """A Wasm module cannot be run, or its run failed."""


class ContractError(ModuleError):
    """The module breaks the client contract, or is not a Wasm module at all."""


class ModuleExit(ModuleError):
    """The module ended with a non-zero exit status.

    ``status`` is that status; the message carries the module's own last line on stderr.
    """

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ModuleTrap(ModuleError):
    """The module trapped (unreachable, out-of-bounds access, stack overflow, …)."""


class LimitExceeded(ModuleError):
    """The module ran into a limit.

    ``limit`` is one of ``instructions``, ``wall_time``, ``memory``, ``output``.
    """

    def __init__(self, limit: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class StrategyError(PropellerError):
    """An aggregation strategy does not take these arguments, or cannot make a model of these
    updates."""


class UnknownStrategyError(StrategyError):
    """There is no strategy of this name, neither built in nor in an installed package."""


class ImageError(PropellerError):
    """A module's bytes cannot be had, or do not match the digest that was asked for."""


class RegistryError(ImageError):
    """A registry of modules cannot be reached, broke off, or asks to come again.

    ``again_after_s``: how long it asks to be left alone, in seconds, or 0.
    """

    def __init__(self, message: str, *, hint: str = "", again_after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.again_after_s = again_after_s


class SignatureError(ImageError):
    """A module has no signature that counts, or what should be signatures is none."""


class KeyFileError(PropellerError):
    """A file is not the key it should be, or others could have put it there."""


class RequestError(PropellerError):
    """An operator's request cannot be carried out as it stands."""
