// Says whether a part is what was designed: this one reads everything and measures nothing, so it never accepts.
// `look_at` has one observation; put your measuring there.
#include <stdlib.h>
#include <string.h>

#include "forewright.h"

typedef exports_verify_request_t request_t;
typedef exports_verify_report_t report_t;
typedef exports_verify_finding_t finding_t;
typedef exports_verify_observation_t observation_t;
typedef exports_verify_plugin_error_t error_t;

enum { PIECE = 1 << 20, MOST_FINDINGS = 10000 };

// All bytes of an artifact, which have to fit into the plugin's memory.
static bool read_all(types_artifact_ref_t *artifact, plugin_list_u8_t *bytes, error_t *err) {
  types_capability_error_t why;
  artifacts_own_reader_t reader;
  if (!artifacts_open(artifact, &reader, &why)) {
    *err = because(&why);
    return false;
  }
  artifacts_borrow_reader_t borrowed = artifacts_borrow_reader(reader);
  bytes->len = artifacts_method_reader_size(borrowed);
  bytes->ptr = malloc(bytes->len);
  for (uint32_t at = 0; at < bytes->len;) {
    plugin_list_u8_t piece;
    if (!artifacts_method_reader_read(borrowed, at, PIECE, &piece, &why)) {
      *err = because(&why);
      return false;
    }
    memcpy(bytes->ptr + at, piece.ptr, piece.len);
    at += piece.len;
  }
  artifacts_reader_drop_own(reader);
  return true;
}

static bool is_mesh(plugin_list_u8_t bytes) {
  uint32_t facets = 0;
  if (bytes.len < 84) return false;
  memcpy(&facets, bytes.ptr + 80, 4);
  return facets > 0 && bytes.len == 84 + 50 * (uint64_t)facets;
}

static finding_t finding(const char *code, const char *detail) {
  return (finding_t){.code = text(code), .severity = 0.2, .detail = text(detail)};
}

static bool look_at(observation_t *observation, finding_t *found, error_t *err) {
  plugin_list_u8_t bytes;
  if (!read_all(&observation->artifact, &bytes, err)) return false;
  *found = finding("not_measured", "it was read, and nothing was measured yet");
  return true;
}

bool exports_verify_inspect(request_t *request, report_t *ret, error_t *err) {
  say(HOST_LEVEL_INFO, "reads what it is given");
  plugin_list_u8_t design;
  if (!read_all(&request->expected, &design, err)) return false;
  if (!is_mesh(design)) {
    *err = invalid_input("the design is no binary STL");
    return false;
  }
  size_t seen = request->observations.len;
  *ret = (report_t){.disposition = EXPORTS_VERIFY_DISPOSITION_INCONCLUSIVE};
  ret->findings.ptr = malloc((seen + 1) * sizeof(finding_t));
  for (size_t i = 0; i < seen && i < MOST_FINDINGS; i++)
    if (!look_at(&request->observations.ptr[i], &ret->findings.ptr[ret->findings.len++], err)) return false;
  if (seen == 0) ret->findings.ptr[ret->findings.len++] = finding("not_seen", "nobody looked");
  return true;
}
