"""How a plugin fails. The contract has four words for it; anything else that is raised would end the call as a bare trap,
so `guard` finds the right one for it.
"""

import json
import re
from collections.abc import Callable
from functools import wraps
from traceback import walk_tb
from typing import Any, TypeVar

from componentize_py_types import Err
from wit_world.imports import types

Method = TypeVar("Method", bound=Callable[..., Any])


def guard(answer: Method) -> Method:
    """Wraps a method that the plugin exports."""

    @wraps(answer)
    def guarded(*given: Any) -> Any:
        try:
            return answer(*given)
        except Exception as error:
            raise Err(plugin_error(error)) from None

    return guarded


def plugin_error(error: Exception) -> types.PluginError:
    match error:
        case Err(value=declared) if isinstance(declared, types.PluginError):
            return declared
        case Err(value=types.CapabilityError_Denied(text) | types.CapabilityError_Quota(text)):
            return types.PluginError_Unsupported(text)
        case Err(value=types.CapabilityError_NotFound() | types.CapabilityError_Conflict()):
            return types.PluginError_Unavailable(None)
        case Err(value=types.CapabilityError_Unavailable()):
            return types.PluginError_Unavailable(None)
    return types.PluginError_Internal("\n".join([f"{type(error).__name__}: {error}", *frames(error)]))


def frames(error: Exception) -> list[str]:
    """Where it happened, outermost first; `traceback` would look for the source files, which are not there."""
    walked = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    return [f"  at {code.co_qualname} ({code.co_filename}:{line})" for code, line in walked]


def parse_json(text: str, deepest: int = 100) -> Any:
    """As `json.loads`, whose own limit lies beyond a plugin's stack: a deeply nested text would end the call."""
    depth = 0
    quoted = False
    for match in re.finditer(r'\\.|["[\]{}]', text, re.DOTALL):
        token = match[0]
        if token == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        if depth > deepest:
            raise ValueError(f"nested more than {deepest} deep")
    return json.loads(text)
