// Designs a solid block that fills the envelope, and asks nothing of what it has to carry.
// Begin in `generate`: put your own shape in the place of `block`, as corners of triangles that face outwards.

import artifacts from "forewright:plugin/artifacts@1.0.0";
import host from "forewright:plugin/host@1.0.0";
import { guard, PluginError } from "./guard.js";

const MEDIA_TYPE = "model/stl";
const PIECE = 1 << 20;
const GREATEST = 3.4028234663852886e38; // of the numbers in a mesh

export const design = {
  generate: guard(({ envelope, keepOut, material, maxMass }, maxCandidates) => {
    host.log("info", `is asked for ${maxCandidates} candidates`, []);
    if (maxCandidates === 0) return [];
    if (keepOut.length > 0) throw new PluginError("unsupported", "this designer cuts no holes");

    const mass = (volume(envelope) * material.density) / 1000;
    if (!(mass > 0)) throw new PluginError("invalid-input", "the material weighs nothing");
    if (!(mass <= maxMass)) throw new PluginError("unsupported", "a solid block is too heavy");
    return [
      {
        mesh: keep("block.stl", stl(block(envelope))),
        mass,
        buildDirection: [0, 0, 1],
        scores: [["solidity", 1]],
        notes: "a solid block",
      },
    ];
  }),
};

function volume({ min, max }) {
  const isSolid = min.every((low, axis) => -GREATEST <= low && low < max[axis] && max[axis] <= GREATEST);
  if (!isSolid) throw new PluginError("invalid-input", "the envelope has no volume");
  return min.reduce((product, low, axis) => product * (max[axis] - low), 1);
}

/** Two triangles for each of the six sides. */
function block({ min, max }) {
  // Bit 0 of a corner's number says whether it is at the upper end of x, bit 1 of y, bit 2 of z.
  const corner = (n) => min.map((low, axis) => ((n >> axis) & 1 ? max[axis] : low));
  const sides = [
    [0, 4, 6, 2],
    [1, 3, 7, 5],
    [0, 1, 5, 4],
    [2, 6, 7, 3],
    [0, 2, 3, 1],
    [4, 5, 7, 6],
  ];
  return sides.flatMap(([a, b, c, d]) => [
    [a, b, c].map(corner),
    [a, c, d].map(corner),
  ]);
}

/** Binary STL; normals are left at zero, which readers take from the order of the corners. */
function stl(triangles) {
  const bytes = new Uint8Array(84 + 50 * triangles.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(80, triangles.length, true);
  triangles.forEach((corners, n) => {
    corners.flat().forEach((along, i) => view.setFloat32(84 + 50 * n + 12 + 4 * i, along, true));
  });
  return bytes;
}

function keep(name, bytes) {
  const writer = artifacts.create(name, MEDIA_TYPE);
  for (let offset = 0; offset < bytes.length; offset += PIECE) {
    writer.append(bytes.subarray(offset, offset + PIECE));
  }
  return artifacts.Writer.finish(writer);
}
