"""Reads a design and what was seen of the part, measures nothing yet, and so comes to no conclusion.
Begin in `look`: make a finding of each deviation, and let `inspect` conclude something from them.
"""

import struct

from componentize_py_types import Err
from guard import guard
from wit_world import exports
from wit_world.exports.verify import Disposition, Finding, Observation, Report, Request
from wit_world.imports import artifacts, host
from wit_world.imports.types import ArtifactRef, PluginError_InvalidInput

PIECE = 1 << 20
MOST = 10_000  # findings in one report


class Verify(exports.Verify):
    @guard
    def inspect(self, request: Request) -> Report:
        host.log(host.Level.INFO, f"looks at {len(request.observations)} observations", [])
        if not is_stl(read(request.expected)):
            raise Err(PluginError_InvalidInput("the design is no binary STL"))

        findings = [look(one) for one in request.observations[:MOST]]
        if not findings:
            findings = [Finding("not_seen", severity=0.2, at=None, detail="nobody looked")]
        return Report(Disposition.INCONCLUSIVE, confidence=0.0, findings=findings, deviation=None)


def look(observation: Observation) -> Finding:
    content = read(observation.artifact)
    detail = f"{len(content)} bytes were read and nothing was measured yet"
    return Finding("not_measured", severity=0.2, at=None, detail=detail)


def is_stl(content: bytes) -> bool:
    if len(content) < 84:
        return False
    (count,) = struct.unpack_from("<I", content, 80)
    return count > 0 and len(content) == 84 + 50 * count


def read(artifact: ArtifactRef) -> bytes:
    with artifacts.open(artifact) as reader:  # closed again: a call may have only so many open
        return b"".join(reader.read(offset, PIECE) for offset in range(0, reader.size(), PIECE))
