// Designs a solid block that fills the envelope, where that is allowed and not too heavy.
// `generate` is the place to begin; `blockStl` makes the mesh of what it chose.
import { create } from "./forewright/artifacts";
import { Box, Candidate, Score, Task } from "./forewright/designer";
import { Level, log } from "./forewright/host";
import { Answer, Vec3 } from "./forewright/types";

/** Best first, at most `maxCandidates`. */
export function generate(task: Task, maxCandidates: u32): Answer<Candidate[]> {
  log(Level.info, `designs a block for ${task.asset.id}`);
  if (!maxCandidates) return Answer.of<Candidate[]>([]);
  if (task.keepOut.length) return Answer.unsupported<Candidate[]>("this designer cuts no holes");
  const volume = volumeOf(task.envelope);
  if (isNaN(volume)) return Answer.invalidInput<Candidate[]>("the envelope has no volume");
  const mass = (volume * task.material.density) / 1000;
  if (!isFinite(mass) || mass > task.maxMass) return Answer.unsupported<Candidate[]>("a solid block is too heavy");
  if (mass <= 0) return Answer.invalidInput<Candidate[]>("the material weighs nothing");

  const created = create("block.stl", "model/stl");
  if (created.error) return created.error!.answer<Candidate[]>();
  const refused = created.value.append(blockStl(task.envelope));
  if (refused) return refused.answer<Candidate[]>();
  const finished = created.value.finish();
  if (finished.error) return finished.error!.answer<Candidate[]>();

  const scores = [new Score("solidity", 1)];
  const block = new Candidate(finished.value, mass, new Vec3(0, 0, 1), scores, "a solid block");
  return Answer.of<Candidate[]>([block]);
}

/** In cubic millimetres, or `NaN` where it is no number greater than nothing. */
function volumeOf(box: Box): f64 {
  const x = box.max.x - box.min.x;
  const y = box.max.y - box.min.y;
  const z = box.max.z - box.min.z;
  const isSolid = isFinite(x) && isFinite(y) && isFinite(z) && x > 0 && y > 0 && z > 0;
  return isSolid ? x * y * z : NaN;
}

/** Corners of the box, one bit of the number per axis; each triangle counter-clockwise as seen from outside. */
const TRIANGLES: StaticArray<i32> = [
  0, 2, 3, 0, 3, 1, // below
  4, 5, 7, 4, 7, 6, // above
  0, 1, 5, 0, 5, 4, // in front
  2, 6, 7, 2, 7, 3, // behind
  0, 4, 6, 0, 6, 2, // left
  1, 3, 7, 1, 7, 5, // right
];
const HEADER_BYTES = 84;
const TRIANGLE_BYTES = 50;

function blockStl(box: Box): Uint8Array {
  const count = TRIANGLES.length / 3;
  // Normals stay zero: readers take them from the winding.
  const bytes = new Uint8Array(HEADER_BYTES + count * TRIANGLE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(80, count, true);
  for (let i = 0; i < TRIANGLES.length; i++) {
    const corner = TRIANGLES[i];
    const at = HEADER_BYTES + (i / 3) * TRIANGLE_BYTES + 12 + (i % 3) * 12;
    view.setFloat32(at, f32(corner & 1 ? box.max.x : box.min.x), true);
    view.setFloat32(at + 4, f32(corner & 2 ? box.max.y : box.min.y), true);
    view.setFloat32(at + 8, f32(corner & 4 ? box.max.z : box.min.z), true);
  }
  return bytes;
}
