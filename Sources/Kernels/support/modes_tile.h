// What the scans of state spaces share: blocks of 16 channels, chunks of positions, the modes of a block.
// Plain code is seen once; what depends on the processor path follows support/vector.h, once per path.
#ifndef FERMATA_MODES_TILE_TYPES
#define FERMATA_MODES_TILE_TYPES
#include "fermata_diagonal_scan.h"
#include <stdlib.h>
#include <string.h>

/// Channels of a block, and floats of one plane of a chunk's positions.
#define MODES_CHANNELS 16
#define MODES_TILE (FM_DIAGONAL_CHUNK * MODES_CHANNELS)
/// Modes are padded to a multiple of this.
#define MODES_GROUP 4

/// One (sequence, block of channels): the unit of parallel work.
typedef struct {
  const fm_diagonal_scan_shape *shape;
  int64_t b, first, count;  // the sequence, the first channel and the channels
  int64_t modes, pitch;     // padded modes, and floats of one plane of them
} modes_block;

/// Positions of a chunk that are valid, or padding, together; a reset may stand at the first.
typedef struct { int32_t start, rows; uint8_t reset, valid; } modes_run;

static inline int64_t modes_chunks(const fm_diagonal_scan_shape *s) {
  return (s->length + FM_DIAGONAL_CHUNK - 1) / FM_DIAGONAL_CHUNK;
}
static inline int64_t modes_chunk_rows(const fm_diagonal_scan_shape *s, int64_t start) {
  return s->length - start < FM_DIAGONAL_CHUNK ? s->length - start : FM_DIAGONAL_CHUNK;
}
/// Floats of all modes of a sequence.
static inline int64_t modes_all(const fm_diagonal_scan_shape *s) { return 2 * s->modes * s->channels; }
/// Where an array of states (batch, 2, modes, channels) holds the block's sequence; NULL stays NULL.
static inline const float *modes_of(const modes_block *block, const float *states) {
  return states ? states + block->b * modes_all(block->shape) : NULL;
}
/// Where states before each chunk hold the one at `start`.
static inline int64_t modes_chunk_at(const modes_block *block, int64_t start) {
  return (block->b * modes_chunks(block->shape) + start / FM_DIAGONAL_CHUNK) * modes_all(block->shape);
}

/// The runs of a chunk of `rows` positions, at most one a position.
static inline int64_t modes_runs(const modes_block *block, int64_t start, int64_t rows, modes_run *runs) {
  const fm_diagonal_scan_shape *s = block->shape;
  const uint8_t *resets = s->resets ? s->resets + block->b * s->length + start : NULL;
  const uint8_t *valid = s->valid ? s->valid + block->b * s->length + start : NULL;
  int64_t count = 0;
  for (int64_t t = 0; t < rows; t++) {
    int reset = resets && resets[t], shown = !valid || valid[t];
    if (count == 0 || reset || shown != runs[count - 1].valid)
      runs[count++] = (modes_run){(int32_t)t, 0, (uint8_t)reset, (uint8_t)shown};
    runs[count - 1].rows++;
  }
  return count;
}

static inline void modes_reset(const modes_block *block, int64_t mode, int64_t group, float *state) {
  for (int plane = 0; plane < 2; plane++)
    memset(state + plane * block->pitch + mode * MODES_CHANNELS, 0, sizeof(float) * (size_t)(group * MODES_CHANNELS));
}

/// The block's part of an array (channels), zeros beyond.
static inline void modes_load_vector(const modes_block *block, const float *from, float *to) {
  memset(to, 0, sizeof(float) * MODES_CHANNELS);
  memcpy(to, from + block->first, sizeof(float) * (size_t)block->count);
}

typedef struct {
  modes_block block;
  const void *arrays;
  void (*run)(const void *arrays, const modes_block *block, float *scratch);
  float *scratch;
  size_t scratch_floats;  // a thread
  int64_t blocks;
} modes_call;

static void modes_run_block(void *context, int64_t index) {
  modes_call *call = context;
  modes_block block = call->block;
  block.b = index / call->blocks;
  block.first = index % call->blocks * MODES_CHANNELS;
  block.count = block.shape->channels - block.first;
  if (block.count > MODES_CHANNELS) block.count = MODES_CHANNELS;
  call->run(call->arrays, &block, call->scratch + (size_t)fm_thread_index() * call->scratch_floats);
}

/// Runs every block with scratch for `planes` planes of modes and `floats` more. Returns -1 without memory for it.
static int modes_start(const fm_diagonal_scan_shape *shape, const void *arrays,
                       void (*run)(const void *, const modes_block *, float *), int64_t planes, int64_t floats) {
  if (shape->batch <= 0 || shape->channels <= 0 || shape->modes <= 0) return 0;
  modes_call call = {.block = {.shape = shape}, .arrays = arrays, .run = run,
                     .blocks = (shape->channels + MODES_CHANNELS - 1) / MODES_CHANNELS};
  call.block.modes = (shape->modes + MODES_GROUP - 1) / MODES_GROUP * MODES_GROUP;
  // Loading fewer rows than a tile of products has clears the rest of that tile.
  call.block.pitch = (call.block.modes < 16 ? 16 : call.block.modes) * MODES_CHANNELS;
  call.scratch_floats = (size_t)(planes * call.block.pitch + floats);
  call.scratch_floats = (call.scratch_floats + 31) & ~(size_t)15;
  call.scratch = aligned_alloc(64, sizeof(float) * call.scratch_floats * (size_t)fm_threads());
  if (!call.scratch) return -1;
  int64_t tasks = shape->batch * call.blocks;
  // Waking the pool costs more than a few tens of thousands of operations.
  if (shape->batch * shape->length * shape->channels * shape->modes < 32768) {
    for (int64_t i = 0; i < tasks; i++) modes_run_block(&call, i);
  } else {
    fm_parallel_dynamic(tasks, modes_run_block, &call);
  }
  free(call.scratch);
  return 0;
}
#endif

#ifdef FM_VARIANT
#include "support/scan_tile.h"

/// Modes (2, modes, channels) of the block's channels, as planes of `pitch` floats, zeros where there are none.
__attribute__((unused)) static void FM(modes_load)(const modes_block *block, const float *from, float *to) {
  int64_t channels = block->shape->channels, modes = block->shape->modes;
  memset(to, 0, sizeof(float) * (size_t)(2 * block->pitch));
  if (!from) return;
  for (int plane = 0; plane < 2; plane++)
    FM(scan_load_tile)(FM_F32, from, plane * modes * channels + block->first, channels, modes, block->count, MODES_CHANNELS, 1, 0,
                       to + plane * block->pitch);
}
__attribute__((unused)) static void FM(modes_store)(const modes_block *block, const float *from, float *to) {
  int64_t channels = block->shape->channels, modes = block->shape->modes;
  for (int plane = 0; plane < 2; plane++)
    FM(scan_store_tile)(FM_F32, to, plane * modes * channels + block->first, channels, modes, block->count, MODES_CHANNELS, 1,
                        from + plane * block->pitch);
}

/// Positions of a tensor (batch, length, planes, channels) as tiles, one a plane; NULL gives zeros. What lies `ahead` positions
/// further is fetched into the cache.
__attribute__((unused)) static void FM(modes_load_positions)(const modes_block *block, const void *from, const int64_t *stride,
                                                             int64_t start, int64_t rows, int64_t ahead, float *to) {
  const fm_diagonal_scan_shape *s = block->shape;
  if (!from) { memset(to, 0, sizeof(float) * (size_t)(s->planes * MODES_TILE)); return; }
  int64_t next = start + ahead;
  if (next < 0 || next + rows > s->length) ahead = 0;
  for (int plane = 0; plane < s->planes; plane++)
    FM(scan_load_tile)(s->type, from, block->b * stride[0] + start * stride[1] + plane * s->channels + block->first, stride[1],
                       rows, block->count, MODES_CHANNELS, 1, ahead * stride[1], to + plane * MODES_TILE);
}
__attribute__((unused)) static void FM(modes_store_positions)(const modes_block *block, void *to, int64_t start, int64_t rows,
                                                              const float *from) {
  const fm_diagonal_scan_shape *s = block->shape;
  int64_t row = s->planes * s->channels;
  for (int plane = 0; plane < s->planes; plane++)
    FM(scan_store_tile)(s->type, to, (block->b * s->length + start) * row + plane * s->channels + block->first, row, rows,
                        block->count, MODES_CHANNELS, 1, from + plane * MODES_TILE);
}

/// What inputs add past all modes: outputs start from skip u, gradients of inputs from skip dy.
__attribute__((unused)) static void FM(modes_skip)(int64_t rows, const float *skip, const float *from, float *to) {
  for (int64_t i = 0; i < rows * MODES_CHANNELS; i += FM_LANES)
    FM(v_store)(to + i, FM(v_load)(from + i) * FM(v_load)(skip + i % MODES_CHANNELS));
}

/// sums += sum over positions of a b.
__attribute__((unused)) static void FM(modes_add_products)(int64_t rows, const float *a, const float *b, float *sums) {
  for (int64_t lane = 0; lane < MODES_CHANNELS; lane += FM_LANES) {
    vf sum = FM(v_load)(sums + lane);
    for (int64_t i = lane; i < rows * MODES_CHANNELS; i += MODES_CHANNELS)
      sum = FM(v_fma)(FM(v_load)(a + i), FM(v_load)(b + i), sum);
    FM(v_store)(sums + lane, sum);
  }
}
#endif
