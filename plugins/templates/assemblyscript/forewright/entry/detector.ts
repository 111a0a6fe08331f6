// How the host calls a detector: a call's arguments come one by one, the answer is where the returned address says.
import * as plugin from "../../detector";
import { Anomaly, Request } from "../detector";
import { Label } from "../host";
import { listAt, textAt } from "../memory";
import { Asset, Series } from "../types";

export { cabi_realloc } from "../memory";

export function detect(
  id: usize, idBytes: usize,
  kind: usize, kindBytes: usize,
  labels: usize, labelCount: i32,
  series: usize, seriesCount: i32,
  since: f64,
): usize {
  const request = new Request(
    new Asset(textAt(id, idBytes), textAt(kind, kindBytes), listAt<Label>(labels, labelCount, 4, Label.read)),
    listAt<Series>(series, seriesCount, 4, Series.read),
    since,
  );
  return plugin.detect(request).handOver((to, anomalies) => to.list<Anomaly>(anomalies, 40, 8, Anomaly.write));
}
