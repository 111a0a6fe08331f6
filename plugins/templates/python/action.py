"""Does something in the world: this one only writes down what it was asked.
Begin in `run`. The same `key` is the same action: hand it on to whatever acts, so that nothing is done twice.
"""

import json
from typing import Any

from componentize_py_types import Err
from guard import guard, parse_json
from wit_world import exports
from wit_world.imports import host
from wit_world.imports.types import PluginError_InvalidInput


class Act(exports.Act):
    @guard
    def run(self, input: str, key: str) -> str:
        asked = parse(input)
        host.log(host.Level.INFO, f"asked for {json.dumps(asked)}", [("key", key)])
        return json.dumps({"done": key})


def parse(text: str) -> dict[str, Any]:
    try:
        asked = parse_json(text)
    except ValueError:
        asked = None  # no JSON is no object either
    if not isinstance(asked, dict):
        raise Err(PluginError_InvalidInput("the input has to be an object"))
    return asked
