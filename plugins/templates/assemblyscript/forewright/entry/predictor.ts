// How the host calls a predictor: a call's arguments come one by one, the answer is where the returned address says.
import * as plugin from "../../predictor";
import { Numbers, listAt, textAt } from "../memory";
import { History, Outlook, Request } from "../predictor";
import { ArtifactRef } from "../types";

export { cabi_realloc } from "../memory";

export function predict(
  histories: usize, historyCount: i32,
  horizons: usize, horizonCount: i32,
  hasModel: bool,
  digest: usize, digestBytes: usize,
  mediaType: usize, mediaTypeBytes: usize,
  size: u32,
  name: usize, nameBytes: usize,
): usize {
  const request = new Request(
    listAt<History>(histories, historyCount, 8, History.read),
    new Numbers(horizons, horizonCount),
    hasModel
      ? new ArtifactRef(textAt(digest, digestBytes), textAt(mediaType, mediaTypeBytes), size, textAt(name, nameBytes))
      : null,
  );
  return plugin.predict(request).handOver((to, outlooks) => to.list<Outlook>(outlooks, 28, 4, Outlook.write));
}
