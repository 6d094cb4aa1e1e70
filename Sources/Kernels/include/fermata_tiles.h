// Products of bf16 tiles with AMX, for kernels that keep their operands packed.
#ifndef FERMATA_TILES_H
#define FERMATA_TILES_H
#include "fermata_runtime.h"

/// What a path with tile instructions offers.
typedef struct {
  /// c (rows, columns), f32, = or (adds) += a (rows, 2 depth) b (2 depth, columns), both bf16.
  ///
  /// A unit is two neighbouring bf16 along the summed axis: a is (rows, depth) units, b (depth, columns) units, pitches are
  /// in units and in f32. `columns` is a multiple of 16. Rows are taken 16 at a time: a and c have room for a multiple of 16,
  /// and what the rows past `rows` of c get means nothing. Every sum is over depth in order.
  void (*product)(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_pitch, const float *b, int64_t b_pitch,
                  float *c, int64_t c_pitch, int adds);
  /// Gives the tiles of the calling thread back to the processor; after the last product of a task.
  void (*release)(void);
} fm_tiles;

/// NULL where the path in use has no tile instructions.
const fm_tiles *fm_tiles_in_use(void);
#endif
