// What a plugin needs of a C library: memory, and no more. Every call has a memory of its own, which is gone with the
// call, so nothing is ever given back.
#include <stdint.h>
#include "stdlib.h"
#include "string.h"

#define PAGE 65536
#define ALIGN 16

extern unsigned char __heap_base;
static uintptr_t next = 0;

// The size of a block stands before it.
void *malloc(size_t size) {
  if (next == 0) next = ((uintptr_t)&__heap_base + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1);
  size_t all = (size + 2 * ALIGN - 1) & ~(size_t)(ALIGN - 1);
  uintptr_t end = next + all;
  if (all < size || end < next) abort();
  size_t there = (size_t)__builtin_wasm_memory_size(0) * PAGE;
  if (end > there && __builtin_wasm_memory_grow(0, (end - there + PAGE - 1) / PAGE) == (size_t)-1) abort();
  *(size_t *)next = size;
  void *block = (void *)(next + ALIGN);
  next = end;
  return block;
}

void *calloc(size_t count, size_t size) {
  size_t all;
  if (__builtin_mul_overflow(count, size, &all)) abort();
  return memset(malloc(all), 0, all);
}

void *realloc(void *old, size_t size) {
  if (old == NULL) return malloc(size);
  size_t before = *(size_t *)((uintptr_t)old - ALIGN);
  if (size <= before) return old;
  return memcpy(malloc(size), old, before);
}

void free(void *block) { (void)block; }

_Noreturn void abort(void) { __builtin_trap(); }

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  unsigned char *t = to;
  const unsigned char *f = from;
  while (size--) *t++ = *f++;
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  unsigned char *t = to;
  const unsigned char *f = from;
  if (t <= f) return memcpy(to, from, size);
  while (size--) t[size] = f[size];
  return to;
}

void *memset(void *to, int byte, size_t size) {
  unsigned char *t = to;
  while (size--) *t++ = (unsigned char)byte;
  return to;
}

int memcmp(const void *a, const void *b, size_t size) {
  const unsigned char *x = a, *y = b;
  for (; size--; x++, y++)
    if (*x != *y) return *x - *y;
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}

// The bindings ask for an object that describes the world; `forewright plugin build` adds that description itself.
void __component_type_object_force_link_plugin(void) {}
