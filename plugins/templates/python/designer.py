"""Designs a solid block that fills the envelope, and asks nothing of what it has to carry.
Begin in `generate`: put your own shape in the place of `block`, as corners of triangles that face outwards.
"""

import math
import struct

from componentize_py_types import Err
from guard import guard
from wit_world import exports
from wit_world.exports.design import Candidate, Task
from wit_world.imports import artifacts, host
from wit_world.imports.types import ArtifactRef, Box3, PluginError_InvalidInput, PluginError_Unsupported

Point = tuple[float, ...]
Triangle = tuple[Point, Point, Point]

MEDIA_TYPE = "model/stl"
PIECE = 1 << 20
GREATEST = 3.4028234663852886e38  # of the numbers in a mesh


class Design(exports.Design):
    @guard
    def generate(self, task: Task, max_candidates: int) -> list[Candidate]:
        host.log(host.Level.INFO, f"is asked for {max_candidates} candidates", [])
        if max_candidates == 0:
            return []
        if task.keep_out:
            raise Err(PluginError_Unsupported("this designer cuts no holes"))

        mass = volume(task.envelope) * task.material.density / 1000
        if not mass > 0:
            raise Err(PluginError_InvalidInput("the material weighs nothing"))
        if not mass <= task.max_mass:
            raise Err(PluginError_Unsupported("a solid block is too heavy"))
        block_of_it = Candidate(
            mesh=keep("block.stl", stl(block(task.envelope))),
            mass=mass,
            build_direction=(0.0, 0.0, 1.0),
            scores=[("solidity", 1.0)],
            notes="a solid block",
        )
        return [block_of_it]


def volume(box: Box3) -> float:
    sides = list(zip(box.min, box.max))
    if not all(-GREATEST <= low < high <= GREATEST for low, high in sides):
        raise Err(PluginError_InvalidInput("the envelope has no volume"))
    return math.prod(high - low for low, high in sides)


def block(box: Box3) -> list[Triangle]:
    """Two triangles for each of the six sides."""
    # Bit 0 of a corner's number says whether it is at the upper end of x, bit 1 of y, bit 2 of z.
    ends = (box.min, box.max)
    corners = [tuple(ends[number >> axis & 1][axis] for axis in range(3)) for number in range(8)]
    sides = [(0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6)]
    triangles = [triangle for a, b, c, d in sides for triangle in ((a, b, c), (a, c, d))]
    return [(corners[a], corners[b], corners[c]) for a, b, c in triangles]


def stl(triangles: list[Triangle]) -> bytes:
    """Binary STL; normals are left at zero, which readers take from the order of the corners."""
    facets = [struct.pack("<12fH", 0, 0, 0, *a, *b, *c, 0) for a, b, c in triangles]
    return b"".join([bytes(80), struct.pack("<I", len(facets)), *facets])


def keep(name: str, content: bytes) -> ArtifactRef:
    writer = artifacts.create(name, MEDIA_TYPE)
    for offset in range(0, len(content), PIECE):
        writer.append(content[offset : offset + PIECE])
    return artifacts.Writer.finish(writer)
