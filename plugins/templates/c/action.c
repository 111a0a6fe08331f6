// Does something in the world; this one only says that it did.
// Ask for `http` under [capabilities] of plugin.toml to reach another system: its functions are in bindings/plugin.h
// after the next build.
#include <stdlib.h>
#include <string.h>

#include "forewright.h"

static bool is_space(uint8_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool is_object(const plugin_string_t *input) {
  size_t start = 0, end = input->len;
  while (start < end && is_space(input->ptr[start])) start++;
  while (start < end && is_space(input->ptr[end - 1])) end--;
  return end - start >= 2 && input->ptr[start] == '{' && input->ptr[end - 1] == '}';
}

// Writes a text as JSON has it, without the quotes around it; answers where it ends. Takes six bytes for each at most.
static uint8_t *escaped(uint8_t *to, const plugin_string_t *from) {
  static const char DIGITS[] = "0123456789abcdef";
  for (size_t i = 0; i < from->len; i++) {
    uint8_t c = from->ptr[i];
    if (c < 0x20) {
      memcpy(to, "\\u00", 4);
      to[4] = DIGITS[c >> 4];
      to[5] = DIGITS[c & 15];
      to += 6;
      continue;
    }
    if (c == '"' || c == '\\') *to++ = '\\';
    *to++ = c;
  }
  return to;
}

bool exports_act_run(plugin_string_t *input, plugin_string_t *key, plugin_string_t *ret,
                     exports_act_plugin_error_t *err) {
  if (!is_object(input)) {
    *err = invalid_input("the input has to be an object");
    return false;
  }
  say(HOST_LEVEL_INFO, "does what it is asked");
  ret->ptr = malloc(6 * key->len + 16);
  uint8_t *end = ret->ptr;
  end = (uint8_t *)memcpy(end, "{\"done\": \"", 10) + 10;
  end = escaped(end, key);
  end = (uint8_t *)memcpy(end, "\"}", 2) + 2;
  ret->len = (size_t)(end - ret->ptr);
  return true;
}
