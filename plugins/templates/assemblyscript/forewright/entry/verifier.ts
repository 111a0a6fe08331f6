// How the host calls a verifier: a call's arguments come one by one, the answer is where the returned address says.
import * as plugin from "../../verifier";
import { listAt, textAt } from "../memory";
import { ArtifactRef } from "../types";
import { Observation, Report, Request } from "../verifier";

export { cabi_realloc } from "../memory";

export function inspect(
  digest: usize, digestBytes: usize,
  mediaType: usize, mediaTypeBytes: usize,
  size: u32,
  name: usize, nameBytes: usize,
  observations: usize, observationCount: i32,
  tolerance: f64,
): usize {
  const request = new Request(
    new ArtifactRef(textAt(digest, digestBytes), textAt(mediaType, mediaTypeBytes), size, textAt(name, nameBytes)),
    listAt<Observation>(observations, observationCount, 8, Observation.read),
    tolerance,
  );
  return plugin.inspect(request).handOver(Report.write);
}
