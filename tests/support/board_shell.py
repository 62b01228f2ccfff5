"""What the firmware's shell does with the lines typed on it: firmware/src/config_settings.c."""

from __future__ import annotations

from collections.abc import Collection


class BoardShell:
    """Keeps ``settings``; refuses the keys of ``refused``."""

    def __init__(self, refused: Collection[str] = ()) -> None:
        self.settings: dict[str, str] = {}
        self._refused = refused
        self._parts: dict[str, str] = {}

    def type(self, line: str) -> str:
        """The line's answer; empty if it is no command of ours."""
        match line.split(" "):
            case ["fl", "set", key, value]:
                return self._keep(key, value)
            case ["fl", "put", key, part]:
                self._parts = {key: self._parts.get(key, "") + part}
                return "fl: done"
            case ["fl", "keep", key, size]:
                value = self._parts.pop(key, "")
                if len(value) != int(size):
                    return f"fl: refused: {key}: parts are missing (-77)"
                return self._keep(key, value)
            case ["fl", "clear", key]:
                self.settings.pop(key, None)
                return "fl: done"
            case _:
                return ""

    def _keep(self, key: str, value: str) -> str:
        if key in self._refused:
            return f"fl: refused: {key}: unknown, too long or impossible (-22)"
        self.settings[key] = value
        return "fl: done"
