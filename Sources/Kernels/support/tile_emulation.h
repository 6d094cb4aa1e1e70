// The tile instructions of AMX in plain C, after their definitions in Intel's manual (Software Developer's Manual, volume 2:
// LDTILECFG, TILEZERO, TILELOADD, TILESTORED, TDPBF16PS, TILERELEASE). Where the processor would fault, the process ends here too.
#ifndef FERMATA_TILE_EMULATION_H
#define FERMATA_TILE_EMULATION_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_COUNT = 8, TILE_ROWS = 16, TILE_BYTES = 64 };

/// The operand of LDTILECFG.
typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t column_bytes[16];
  uint8_t rows[16];
} tile_configuration;
_Static_assert(sizeof(tile_configuration) == 64, "as LDTILECFG reads it");

typedef union {
  uint8_t bytes[TILE_ROWS][TILE_BYTES];
  float f32[TILE_ROWS][TILE_BYTES / 4];
  uint16_t bf16[TILE_ROWS][TILE_BYTES / 2];
} emulated_tile;

static _Thread_local tile_configuration emulated_configuration;
static _Thread_local emulated_tile emulated_tiles[TILE_COUNT];

static void emulated_fault_unless(int fine) {
  if (!fine) abort();
}

static void emulated_tile_release(void) {
  memset(&emulated_configuration, 0, sizeof emulated_configuration);
  memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static void emulated_tile_configure(const tile_configuration *from) {
  emulated_tile_release();
  if (from->palette == 0) return;
  emulated_fault_unless(from->palette == 1);
  for (int i = 0; i < 14; i++) emulated_fault_unless(from->reserved[i] == 0);
  for (int t = 0; t < 16; t++) {
    if (t >= TILE_COUNT) { emulated_fault_unless(from->rows[t] == 0 && from->column_bytes[t] == 0); continue; }
    emulated_fault_unless(from->rows[t] <= TILE_ROWS && from->column_bytes[t] <= TILE_BYTES);
    emulated_fault_unless((from->rows[t] == 0) == (from->column_bytes[t] == 0));
  }
  emulated_configuration = *from;
}

static emulated_tile *emulated_configured(int t) {
  emulated_fault_unless(t >= 0 && t < TILE_COUNT && emulated_configuration.palette == 1 && emulated_configuration.rows[t] > 0);
  return &emulated_tiles[t];
}

static void emulated_tile_zero(int t) { memset(emulated_configured(t), 0, sizeof(emulated_tile)); }

/// Rows and bytes past the configured ones become zeros.
static void emulated_tile_load(int t, const void *from, int64_t stride) {
  emulated_tile *tile = emulated_configured(t);
  memset(tile, 0, sizeof *tile);
  for (int r = 0; r < emulated_configuration.rows[t]; r++)
    memcpy(tile->bytes[r], (const char *)from + r * stride, emulated_configuration.column_bytes[t]);
}

static void emulated_tile_store(int t, void *to, int64_t stride) {
  const emulated_tile *tile = emulated_configured(t);
  for (int r = 0; r < emulated_configuration.rows[t]; r++)
    memcpy((char *)to + r * stride, tile->bytes[r], emulated_configuration.column_bytes[t]);
}

/// A denormal counts as zero, before and after each step.
static inline float emulated_flush(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
  memcpy(&x, &bits, 4);
  return x;
}

static inline float emulated_widen(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, 4);
  return emulated_flush(x);
}

/// TDPBF16PS: c (rows, n) += a (rows, 2 k) b, where row k of b holds rows 2 k and 2 k + 1 of the factor, column by column.
/// Even and odd products are summed apart, each by fused multiply-adds in order of k, then added to each other and to c.
static void emulated_tile_multiply(int c, int a, int b) {
  emulated_tile *sum = emulated_configured(c);
  const emulated_tile *left = emulated_configured(a), *right = emulated_configured(b);
  const tile_configuration *size = &emulated_configuration;
  emulated_fault_unless(c != a && c != b && a != b);
  emulated_fault_unless(size->rows[c] == size->rows[a] && size->column_bytes[c] == size->column_bytes[b]);
  emulated_fault_unless(size->column_bytes[a] == 4 * size->rows[b] && size->column_bytes[b] % 4 == 0);
  int depth = size->column_bytes[a] / 4, columns = size->column_bytes[c] / 4;
  for (int m = 0; m < size->rows[c]; m++) {
    float parts[TILE_BYTES / 2] = {0};
    for (int k = 0; k < depth; k++)
      for (int n = 0; n < 2 * columns; n++)
        parts[n] = emulated_flush(
            fmaf(emulated_widen(left->bf16[m][2 * k + n % 2]), emulated_widen(right->bf16[k][n]), parts[n]));
    for (int n = 0; n < columns; n++)
      sum->f32[m][n] = emulated_flush(emulated_flush(sum->f32[m][n]) + emulated_flush(parts[2 * n] + parts[2 * n + 1]));
  }
}
#endif
