// Makes shapes that hold: this one fills the envelope with a block.
// `corners` and `FACES` are the shape; put yours there. The host checks that what you write is closed.
#include <stdlib.h>
#include <string.h>

#include "forewright.h"

typedef exports_design_task_t task_t;
typedef exports_design_candidate_t candidate_t;
typedef exports_design_plugin_error_t error_t;
typedef types_vec3_t vec3_t;

enum { HEADER = 80, FACET = 50, FACETS = 12 };

// Corner n lies at the maximum of x, y and z where the bits 1, 2 and 4 of n are set. Seen from outside, the corners of a
// facet go round against the clock.
static const uint8_t FACES[FACETS][3] = {
    {0, 2, 3}, {0, 3, 1}, {4, 5, 7}, {4, 7, 6}, {0, 1, 5}, {0, 5, 4},
    {2, 6, 7}, {2, 7, 3}, {0, 4, 6}, {0, 6, 2}, {1, 3, 7}, {1, 7, 5},
};

static uint8_t *put(uint8_t *to, float value) { return (uint8_t *)memcpy(to, &value, sizeof value) + sizeof value; }

// A binary STL of a box.
static plugin_list_u8_t block(const types_box3_t *box) {
  plugin_list_u8_t stl = {.len = HEADER + 4 + FACETS * FACET};
  stl.ptr = calloc(1, stl.len);
  uint32_t facets = FACETS;
  memcpy(stl.ptr + HEADER, &facets, 4);
  for (size_t i = 0; i < FACETS; i++) {
    uint8_t *at = stl.ptr + HEADER + 4 + i * FACET + 12;  // after the normal, which is left to the reader
    for (size_t j = 0; j < 3; j++) {
      uint8_t corner = FACES[i][j];
      at = put(at, (float)(corner & 1 ? box->max.f0 : box->min.f0));
      at = put(at, (float)(corner & 2 ? box->max.f1 : box->min.f1));
      at = put(at, (float)(corner & 4 ? box->max.f2 : box->min.f2));
    }
  }
  return stl;
}

static bool keep(plugin_list_u8_t bytes, types_artifact_ref_t *kept, types_capability_error_t *why) {
  plugin_string_t name = text("block.stl"), media_type = text("model/stl");
  artifacts_own_writer_t writer;
  if (!artifacts_create(&name, &media_type, &writer, why)) return false;
  if (!artifacts_method_writer_append(artifacts_borrow_writer(writer), &bytes, why)) return false;
  return artifacts_static_writer_finish(writer, kept, why);
}

bool exports_design_generate(task_t *task, uint32_t max_candidates, exports_design_list_candidate_t *ret, error_t *err) {
  say(HOST_LEVEL_INFO, "fills the envelope");
  *ret = (exports_design_list_candidate_t){0};
  if (max_candidates == 0) return true;
  if (task->keep_out.len > 0) {
    *err = unsupported("this designer cuts no holes");
    return false;
  }
  const types_box3_t *box = &task->envelope;
  double volume = (box->max.f0 - box->min.f0) * (box->max.f1 - box->min.f1) * (box->max.f2 - box->min.f2);
  if (!__builtin_isfinite(volume) || !(volume > 0)) {
    *err = invalid_input("the envelope has no volume");
    return false;
  }
  double mass = volume * task->material.density / 1000;
  if (!(mass > 0)) {
    *err = invalid_input("the material has no mass");
    return false;
  }
  if (!(mass <= task->max_mass)) {
    *err = unsupported("a solid block is too heavy");
    return false;
  }
  types_artifact_ref_t mesh;
  types_capability_error_t why;
  if (!keep(block(box), &mesh, &why)) {
    *err = because(&why);
    return false;
  }
  ret->len = 1;
  ret->ptr = malloc(sizeof(candidate_t));
  *ret->ptr = (candidate_t){
      .mesh = mesh,
      .mass = mass,
      .build_direction = (vec3_t){0, 0, 1},
      .notes = text("a solid block"),
  };
  ret->ptr->scores.len = 1;
  ret->ptr->scores.ptr = malloc(sizeof *ret->ptr->scores.ptr);
  ret->ptr->scores.ptr->f0 = text("solidity");
  ret->ptr->scores.ptr->f1 = 1;
  return true;
}
