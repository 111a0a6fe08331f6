// Reads the design and all that was seen of the part; it measures nothing yet, and so accepts nothing.
// `inspect` is the place to begin: each observation's bytes are at hand where its finding is made.
import { CapabilityError, Granted, open } from "./forewright/artifacts";
import { Level, log } from "./forewright/host";
import { Answer, ArtifactRef } from "./forewright/types";
import { Disposition, Finding, Report, Request } from "./forewright/verifier";

const MOST_FINDINGS = 10_000;
const PIECE_BYTES = 1 << 20;
const HEADER_BYTES: u32 = 84;
const TRIANGLE_BYTES: u64 = 50;

export function inspect(request: Request): Answer<Report> {
  log(Level.info, `inspects ${request.observations.length} observations`);
  const design = contentsOf(request.expected);
  if (design.error) return design.error!.answer<Report>();
  if (!isStl(design.value)) return Answer.invalidInput<Report>("the design is no binary STL");

  const findings: Finding[] = [];
  if (!request.observations.length) findings.push(new Finding("not_seen", 0.2, null, "nobody looked"));
  for (let i = 0; i < min(request.observations.length, MOST_FINDINGS); i++) {
    const seen = contentsOf(request.observations[i].artifact);
    if (seen.error) return seen.error!.answer<Report>();
    const detail = `${seen.value.size} bytes were read and nothing was measured yet`;
    findings.push(new Finding("not_measured", 0.2, null, detail));
  }
  return Answer.of<Report>(new Report(Disposition.inconclusive, 0, findings, null));
}

/** Whether the size is what the number of triangles, which stands after 80 bytes, makes it. */
function isStl(design: Contents): bool {
  if (design.size < HEADER_BYTES) return false;
  // The first piece has the header, since pieces are far larger.
  const first = design.pieces[0];
  const triangles: u64 = new DataView(first.buffer).getUint32(80, true);
  return triangles > 0 && <u64>design.size == HEADER_BYTES + TRIANGLE_BYTES * triangles;
}

/** The bytes of an artifact, in pieces of at most 1 MiB. */
class Contents {
  readonly pieces: Uint8Array[] = [];
  size: u32 = 0;
}

function contentsOf(artifact: ArtifactRef): Granted<Contents> {
  const opened = open(artifact);
  if (opened.error) return new Granted<Contents>(null, opened.error);
  const reader = opened.value;
  const contents = new Contents();
  let error: CapabilityError | null = null;
  while (contents.size < reader.size) {
    const read = reader.read(contents.size, PIECE_BYTES);
    error = read.error;
    if (error || !read.value.length) break;
    contents.pieces.push(read.value);
    contents.size += read.value.length;
  }
  reader.close();
  return new Granted<Contents>(contents, error);
}
