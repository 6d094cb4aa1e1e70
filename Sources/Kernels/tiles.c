// The product of bf16 tiles, compiled twice from one source: for AMX, and for the emulation of its instructions.
#include "fermata_tiles.h"
#ifdef TILE

/// Tiles 0 to 3 are sums (16, 16); 4 and 5 are a's (16, units), 6 and 7 are b's (units, 16).
static void TILE(configure)(int units) {
  tile_configuration c = {.palette = 1};
  for (int t = 0; t < TILE_COUNT; t++) {
    c.rows[t] = (uint8_t)(t < 6 ? 16 : units);
    c.column_bytes[t] = (uint16_t)(t == 4 || t == 5 ? 4 * units : 64);
  }
  TILE(tile_configure)(&c);
}

/// One block of c of one or two tiles each way, `steps` times `units` deep.
TILE_INLINE void TILE(block)(const int tall, const int wide, int64_t steps, int units, const float *a, int64_t a_pitch,
                             const float *b, int64_t b_pitch, float *c, int64_t c_pitch, int adds) {
  float *below = c + 16 * c_pitch;
  int64_t a_bytes = 4 * a_pitch, b_bytes = 4 * b_pitch, c_bytes = 4 * c_pitch;
  if (adds) {
    TILE(tile_load)(0, c, c_bytes);
    if (wide) TILE(tile_load)(1, c + 16, c_bytes);
    if (tall) TILE(tile_load)(2, below, c_bytes);
    if (tall && wide) TILE(tile_load)(3, below + 16, c_bytes);
  } else {
    TILE(tile_zero)(0);
    if (wide) TILE(tile_zero)(1);
    if (tall) TILE(tile_zero)(2);
    if (tall && wide) TILE(tile_zero)(3);
  }
  for (int64_t k = 0; k < steps; k++, a += units, b += units * b_pitch) {
    TILE(tile_load)(6, b, b_bytes);
    TILE(tile_load)(4, a, a_bytes);
    TILE(tile_multiply)(0, 4, 6);
    if (tall) {
      TILE(tile_load)(5, a + 16 * a_pitch, a_bytes);
      TILE(tile_multiply)(2, 5, 6);
    }
    if (wide) {
      TILE(tile_load)(7, b + 16, b_bytes);
      TILE(tile_multiply)(1, 4, 7);
      if (tall) TILE(tile_multiply)(3, 5, 7);
    }
  }
  TILE(tile_store)(0, c, c_bytes);
  if (wide) TILE(tile_store)(1, c + 16, c_bytes);
  if (tall) TILE(tile_store)(2, below, c_bytes);
  if (tall && wide) TILE(tile_store)(3, below + 16, c_bytes);
}

static void TILE(pass)(int64_t rows, int64_t columns, int64_t steps, int units, const float *a, int64_t a_pitch, const float *b,
                       int64_t b_pitch, float *c, int64_t c_pitch, int adds) {
  // Setting the tiles up costs as much as several products, and nearly all are 16 units deep.
  if (TILE(units_set) != units) TILE(configure)(TILE(units_set) = units);
  for (int64_t m = 0; m < rows; m += 32)
    for (int64_t n = 0; n < columns; n += 32) {
      const float *from_a = a + m * a_pitch, *from_b = b + n;
      float *to = c + m * c_pitch + n;
#define BLOCK(tall, wide) TILE(block)(tall, wide, steps, units, from_a, a_pitch, from_b, b_pitch, to, c_pitch, adds)
      if (rows - m > 16 && columns - n > 16) BLOCK(1, 1);
      else if (rows - m > 16) BLOCK(1, 0);
      else if (columns - n > 16) BLOCK(0, 1);
      else BLOCK(0, 0);
#undef BLOCK
    }
}

static void TILE(product)(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_pitch, const float *b,
                          int64_t b_pitch, float *c, int64_t c_pitch, int adds) {
  int64_t whole = depth / 16;
  int rest = (int)(depth % 16);
  if (whole) TILE(pass)(rows, columns, whole, 16, a, a_pitch, b, b_pitch, c, c_pitch, adds);
  if (rest) TILE(pass)(rows, columns, 1, rest, a + 16 * whole, a_pitch, b + 16 * whole * b_pitch, b_pitch, c, c_pitch, adds || whole);
}

static void TILE(release)(void) {
  TILE(units_set) = 0;
  TILE(tile_release)();
}

static const fm_tiles TILE(table) = {TILE(product), TILE(release)};

#else
#include "support/tile_emulation.h"

#define TILE_INLINE static inline __attribute__((always_inline))
static _Thread_local int emulated_units_set;
#define TILE(name) emulated_##name
#include "tiles.c"
#undef TILE

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16"))), apply_to = function)
static _Thread_local int amx_units_set;
// The numbers of tiles are part of the instructions, so these cannot be functions.
#define amx_tile_configure(configuration) _tile_loadconfig(configuration)
#define amx_tile_zero(t) _tile_zero(t)
#define amx_tile_load(t, from, stride) _tile_loadd(t, from, stride)
#define amx_tile_store(t, to, stride) _tile_stored(t, to, stride)
#define amx_tile_multiply(c, a, b) _tile_dpbf16ps(c, a, b)
#define amx_tile_release() _tile_release()
#define TILE(name) amx_##name
#include "tiles.c"
#undef TILE
#pragma clang attribute pop
#endif

const fm_tiles *fm_tiles_in_use(void) {
#if defined(__x86_64__)
  if (fm_path() == FM_AMX) return &amx_table;
#endif
  return fm_path() == FM_AMX_EMULATED ? &emulated_table : NULL;
}
#endif
