// Short words for what every plugin does. The contract's own names are in bindings/plugin.h.
#pragma once
#include "plugin.h"

// A text of the program as the contract has it; it is not copied.
static inline plugin_string_t text(const char *s) {
  plugin_string_t text;
  plugin_string_set(&text, s);
  return text;
}

static inline bool equal(plugin_string_t a, plugin_string_t b) {
  return a.len == b.len && __builtin_memcmp(a.ptr, b.ptr, a.len) == 0;
}

// Writes a line to the plugin's log.
static inline void say(host_level_t level, const char *message) {
  plugin_string_t line = text(message);
  plugin_list_tuple2_string_string_t no_fields = {0};
  host_log(level, &line, &no_fields);
}

static inline types_plugin_error_t error(uint8_t tag, const char *why) {
  types_plugin_error_t error = {.tag = tag};
  error.val.internal = text(why);
  return error;
}

static inline types_plugin_error_t invalid_input(const char *why) {
  return error(TYPES_PLUGIN_ERROR_INVALID_INPUT, why);
}

static inline types_plugin_error_t unsupported(const char *why) {
  return error(TYPES_PLUGIN_ERROR_UNSUPPORTED, why);
}

// What an operator's grant does not allow is not for this plugin; what is not there now may be there later.
static inline types_plugin_error_t because(const types_capability_error_t *why) {
  switch (why->tag) {
    case TYPES_CAPABILITY_ERROR_DENIED:
    case TYPES_CAPABILITY_ERROR_QUOTA:
      return (types_plugin_error_t){.tag = TYPES_PLUGIN_ERROR_UNSUPPORTED, .val.unsupported = why->val.denied};
    case TYPES_CAPABILITY_ERROR_INVALID:
      return (types_plugin_error_t){.tag = TYPES_PLUGIN_ERROR_INTERNAL, .val.internal = why->val.invalid};
    default:
      return (types_plugin_error_t){.tag = TYPES_PLUGIN_ERROR_UNAVAILABLE};
  }
}
