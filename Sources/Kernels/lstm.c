// LSTM's recurrence: per step one small product with the recurrent matrix, then the gates.
//
// The recurrent matrix is packed once a call so that one block of output units streams in order: forward, a block holds
// the four gates of FM_LANES units side by side, so that a unit's gates meet in registers and are applied there.
// Rows of the batch are independent and are split between threads; with fewer rows than threads and a wide layer the
// blocks of units are split instead, step by step. A row's sums run over the inner index in order in every case.
#include "fermata_lstm.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"

#define LSTM_BLOCK (4 * FM_LANES)
#undef LSTM_TILE_ROWS
#define LSTM_PAIRS_WIDTH 128
#if FM_LANES == 16
#define LSTM_TILE_ROWS 4
#else
#define LSTM_TILE_ROWS 2
#endif

/// Whether products take pairs of bf16: the recurrent matrix as it is, the other side rounded. The sums and the state stay
/// f32. Narrow layers gain nothing and keep their f32 side. Nothing here depends on where a sequence was cut.
FM_INLINE int FM(lstm_pairs)(const lstm_call *call) {
  return FM_BF16_INSTRUCTIONS && call->type == FM_BF16 && call->width >= LSTM_PAIRS_WIDTH;
}

/// Writes rows p and p + 1 of a packed panel, `FM_LANES` columns at x: one after the other, or interleaved as pairs of bf16.
FM_INLINE void FM(lstm_pack_rows)(int pairs, float *panel, int64_t p, int64_t x, vf first, vf second, int has_second) {
  if (pairs) {
    vi bits = (((vi)first >> 16) & FM(v_seti)(0xffff)) | ((vi)second & FM(v_seti)((int32_t)0xffff0000));
    FM(v_store)(panel + p / 2 * LSTM_BLOCK + x, (vf)bits);
  } else {
    FM(v_store)(panel + p * LSTM_BLOCK + x, first);
    if (has_second) FM(v_store)(panel + (p + 1) * LSTM_BLOCK + x, second);
  }
}

/// Packs (4 width, width) R for the forward: packed[block][p][gate][lane] = R[gate * width + block * lanes + lane][p].
static void FM(lstm_pack_forward)(void *context, int64_t block) {
  const lstm_call *call = context;
  int64_t width = call->width, unit = block * FM_LANES;
  int pairs = FM(lstm_pairs)(call);
  float *panel = call->packed + block * call->panel;
  float rows[16 * 16], columns[16 * 16];
  memset(rows, 0, sizeof rows);
  for (int gate = 0; gate < 4; gate++)
    for (int64_t p = 0; p < width; p += 16) {
      for (int lane = 0; lane < FM_LANES && unit + lane < width; lane++)
        for (int64_t x = 0; x < 16; x += FM_LANES) {
          int64_t n = width - p - x;
          vf v = n > 0 ? FM(scan_read_n)(call->type, call->recurrent, (gate * width + unit + lane) * width + p + x, n)
                       : FM(v_set)(0);
          FM(v_store)(rows + lane * 16 + x, v);
        }
      FM(scan_transpose16)(rows, 16, columns, 16);
      for (int64_t x = 0; x < 16 && p + x < width; x += 2)
        FM(lstm_pack_rows)(pairs, panel, p + x, gate * FM_LANES, FM(v_load)(columns + x * 16),
                           FM(v_load)(columns + (x + 1) * 16), p + x + 1 < width);
    }
}

/// Packs R for the backward: packed[block][j][lane] = R[j][block * 4 lanes + lane], j < 4 width.
static void FM(lstm_pack_backward)(void *context, int64_t block) {
  const lstm_call *call = context;
  int64_t width = call->width, unit = block * LSTM_BLOCK;
  int pairs = FM(lstm_pairs)(call);
  float *panel = call->packed + block * call->panel;
  for (int64_t j = 0; j < 4 * width; j += 2)
    for (int64_t x = 0; x < LSTM_BLOCK; x += FM_LANES) {
      int64_t n = width - unit - x, at = j * width + unit + x;
      vf first = n > 0 ? FM(scan_read_n)(call->type, call->recurrent, at, n) : FM(v_set)(0);
      vf second = n > 0 ? FM(scan_read_n)(call->type, call->recurrent, at + width, n) : FM(v_set)(0);
      FM(lstm_pack_rows)(pairs, panel, j, x, first, second, 1);
    }
}

/// acc[r][0..<4] += sum_p left[r][p] packed[p][...]
FM_INLINE void FM(lstm_multiply)(const int rows, const float *left, int64_t left_row, const float *packed, int64_t inner, vf *acc) {
  for (int64_t p = 0; p < inner; p++, packed += LSTM_BLOCK) {
    vf b[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) b[c] = FM(v_load)(packed + c * FM_LANES);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      vf x = FM(v_set)(left[r * left_row + p]);
#pragma clang loop unroll(full)
      for (int c = 0; c < 4; c++) acc[r * 4 + c] = FM(v_fma)(x, b[c], acc[r * 4 + c]);
    }
  }
}

#if FM_BF16_INSTRUCTIONS
/// The same on pairs of bf16.
FM_INLINE void FM(lstm_multiply_pairs)(const int rows, const uint16_t *left, int64_t left_row, const float *packed,
                                       int64_t inner, vf *acc) {
  for (int64_t p = 0; p < inner; p += 2, packed += LSTM_BLOCK) {
    __m512bh b[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) b[c] = (__m512bh)_mm512_loadu_ps(packed + c * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      int32_t pair;
      memcpy(&pair, left + r * left_row + p, sizeof pair);
      __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma clang loop unroll(full)
      for (int c = 0; c < 4; c++) acc[r * 4 + c] = (vf)_mm512_dpbf16_ps((__m512)acc[r * 4 + c], x, b[c]);
    }
  }
}
#endif

/// The gates of one unit block of row b at step t, from their four sums.
FM_INLINE void FM(lstm_apply_gates)(const lstm_call *call, int64_t b, int64_t t, int64_t unit, const vf *sums) {
  int64_t width = call->width, n = width - unit, at = b * call->padded + unit, step = b * call->length + t;
  vf i = FM(v_sigmoid)(sums[0]), f = FM(v_sigmoid)(sums[1]), g = FM(v_tanh)(sums[2]), o = FM(v_sigmoid)(sums[3]);
  vf c = FM(v_fma)(f, FM(v_load)(call->cell + at), i * g), h = o * FM(v_tanh)(c);
  FM(v_store)(call->cell + at, c);
  FM(v_store)(call->hidden[(t + 1) & 1] + at, h);
  if (FM(lstm_pairs)(call)) FM(scan_write_n)(FM_BF16, call->halves[(t + 1) & 1], at, h, n);
  FM(scan_write_n)(call->type, call->output, step * width + unit, h, n);
  if (call->gates) {
    float *gates = call->gates + step * 4 * width + unit;
    FM(scan_write_n)(FM_F32, gates, 0, i, n);
    FM(scan_write_n)(FM_F32, gates, width, f, n);
    FM(scan_write_n)(FM_F32, gates, 2 * width, g, n);
    FM(scan_write_n)(FM_F32, gates, 3 * width, o, n);
  }
  if (call->cells) FM(scan_write_n)(FM_F32, call->cells, step * width + unit, c, n);
}

/// One step of `rows` rows of the batch for one block of units.
FM_INLINE void FM(lstm_forward_tile)(const int rows, const lstm_call *call, int64_t b, int64_t t, int64_t block) {
  int64_t width = call->width, padded = call->padded, unit = block * FM_LANES;
  vf acc[LSTM_TILE_ROWS * 4];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++)
      acc[r * 4 + c] = FM(scan_read_n)(call->type, call->projections,
                                       ((b + r) * call->length + t) * 4 * width + c * width + unit, width - unit);
  const float *panel = call->packed + block * call->panel;
#if FM_BF16_INSTRUCTIONS
  if (FM(lstm_pairs)(call)) FM(lstm_multiply_pairs)(rows, call->halves[t & 1] + b * padded, padded, panel, width, acc); else
#endif
  FM(lstm_multiply)(rows, call->hidden[t & 1] + b * padded, padded, panel, width, acc);
  // A copy with a variable index, so that the sums themselves can stay in registers.
  vf sums[LSTM_TILE_ROWS * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows * 4; i++) sums[i] = acc[i];
#pragma clang loop unroll(disable)
  for (int r = 0; r < rows; r++) FM(lstm_apply_gates)(call, b + r, t, unit, sums + r * 4);
}

/// One block of units of one step straight from the recurrent matrix, for pieces too short to pay for packing it.
static void FM(lstm_direct_block)(void *context, int64_t block) {
  const lstm_call *call = context;
  int64_t width = call->width, t = call->step, unit = block * FM_LANES;
  for (int64_t u = unit; u < unit + FM_LANES && u < width; u += 4) {
    int64_t rows[16];
    for (int i = 0; i < 16; i++) rows[i] = (i / 4 * width + (u + i % 4 < width ? u + i % 4 : width - 1)) * width;
    for (int64_t b = 0; b < call->batch; b++) {
      const float *before = call->hidden[t & 1] + b * call->padded;
      vf acc[16];
      float sums[16];
#pragma clang loop unroll(full)
      for (int i = 0; i < 16; i++) acc[i] = FM(v_set)(0);
      int64_t p = 0;
      for (; p + FM_LANES <= width; p += FM_LANES) {
        vf h = FM(v_load)(before + p);
#pragma clang loop unroll(full)
        for (int i = 0; i < 16; i++) acc[i] = FM(v_fma)(h, FM(v_read)(call->type, call->recurrent, rows[i] + p), acc[i]);
      }
      if (p < width) {
        vf h = FM(v_load)(before + p);
#pragma clang loop unroll(full)
        for (int i = 0; i < 16; i++)
          acc[i] = FM(v_fma)(h, FM(scan_read_n)(call->type, call->recurrent, rows[i] + p, width - p), acc[i]);
      }
      FM(scan_sum16)(acc, sums);
      for (int i = 0; i < 16; i++) call->dsums[(b * 4 + i / 4) * call->padded + u + i % 4] = sums[i];
    }
  }
  for (int64_t b = 0; b < call->batch; b++) {
    vf sums[4];
    for (int c = 0; c < 4; c++)
      sums[c] = FM(v_load)(call->dsums + (b * 4 + c) * call->padded + unit) +
                FM(scan_read_n)(call->type, call->projections, ((b * call->length + t) * 4 + c) * width + unit, width - unit);
    FM(lstm_apply_gates)(call, b, t, unit, sums);
  }
}

static void FM(lstm_forward_block)(const lstm_call *call, int64_t first, int64_t last, int64_t t, int64_t block) {
  int64_t b = first;
  for (; b + LSTM_TILE_ROWS <= last; b += LSTM_TILE_ROWS) FM(lstm_forward_tile)(LSTM_TILE_ROWS, call, b, t, block);
#if LSTM_TILE_ROWS > 2
  for (; b + 2 <= last; b += 2) FM(lstm_forward_tile)(2, call, b, t, block);
#endif
  for (; b < last; b++) FM(lstm_forward_tile)(1, call, b, t, block);
}

/// Zeroes the state of rows whose document starts at t.
static void FM(lstm_reset)(const lstm_call *call, int64_t first, int64_t last, int64_t t) {
  for (int64_t b = first; call->resets && b < last; b++)
    if (call->resets[b * call->length + t]) {
      memset(call->hidden[t & 1] + b * call->padded, 0, sizeof(float) * (size_t)call->padded);
      memset(call->halves[t & 1] + b * call->padded, 0, sizeof(uint16_t) * (size_t)call->padded);
      memset(call->cell + b * call->padded, 0, sizeof(float) * (size_t)call->padded);
    }
}

static void FM(lstm_forward_rows)(void *context, int64_t index) {
  const lstm_call *call = context;
  int64_t first = index * call->batch / call->pieces, last = (index + 1) * call->batch / call->pieces;
  for (int64_t t = 0; t < call->length; t++) {
    FM(lstm_reset)(call, first, last, t);
    for (int64_t unit = 0; unit < call->width; unit += FM_LANES)
      FM(lstm_forward_block)(call, first, last, t, unit / FM_LANES);
  }
}

static void FM(lstm_forward_units)(void *context, int64_t index) {
  const lstm_call *call = context;
  int64_t blocks = (call->width + FM_LANES - 1) / FM_LANES;
  for (int64_t block = index * blocks / call->pieces; block < (index + 1) * blocks / call->pieces; block++)
    FM(lstm_forward_block)(call, 0, call->batch, call->step, block);
}

static void FM(lstm_forward)(lstm_call *call) {
  int64_t blocks = (call->width + FM_LANES - 1) / FM_LANES;
  int pairs = FM(lstm_pairs)(call);
  if (call->direct) {
    for (call->step = 0; call->step < call->length; call->step++) {
      FM(lstm_reset)(call, 0, call->batch, call->step);
      // The product rounds as the packed one does.
      float *before = call->hidden[call->step & 1];
      for (int64_t x = 0; pairs && x < call->batch * call->padded; x += FM_LANES) {
        uint16_t halves[FM_LANES];
        FM(v_store_bf16)(halves, FM(v_load)(before + x));
        FM(v_store)(before + x, FM(v_load_bf16)(halves));
      }
      if (call->by_units) fm_parallel(blocks, FM(lstm_direct_block), call);
      else for (int64_t block = 0; block < blocks; block++) FM(lstm_direct_block)(call, block);
    }
    return;
  }
  call->panel = (pairs ? (call->width + 1) / 2 : call->width) * LSTM_BLOCK;
  fm_parallel(blocks, FM(lstm_pack_forward), call);
  for (int64_t x = 0; pairs && x < call->batch * call->padded; x += FM_LANES)
    FM(v_store_bf16)(call->halves[0] + x, FM(v_load)(call->hidden[0] + x));
  if (!call->by_units) { fm_parallel(call->pieces, FM(lstm_forward_rows), call); return; }
  for (call->step = 0; call->step < call->length; call->step++) {
    FM(lstm_reset)(call, 0, call->batch, call->step);
    fm_parallel(call->pieces, FM(lstm_forward_units), call);
  }
}

/// The gates' part of one step backward for one row: from the gradients of h_t and c_t to those of the four sums and of c_{t-1}.
static void FM(lstm_backward_gates)(const lstm_call *call, int64_t b, int64_t t, int64_t first_unit, int64_t last_unit) {
  int64_t width = call->width, padded = call->padded, step = b * call->length + t;
  const float *gates = call->gates + step * 4 * width;
  int reset = call->resets && call->resets[step];
  const float *before = reset ? NULL : t > 0 ? call->cells + (step - 1) * width
                        : call->initial_cell ? call->initial_cell + b * width : NULL;
  float *sums = call->dsums + b * 4 * padded;
  vf one = FM(v_set)(1);
  for (int64_t x = first_unit; x < last_unit; x += FM_LANES) {
    int64_t n = width - x;
    vf i = FM(scan_read_n)(FM_F32, gates, x, n), f = FM(scan_read_n)(FM_F32, gates, width + x, n);
    vf g = FM(scan_read_n)(FM_F32, gates, 2 * width + x, n), o = FM(scan_read_n)(FM_F32, gates, 3 * width + x, n);
    vf c = FM(v_tanh)(FM(scan_read_n)(FM_F32, call->cells, step * width + x, n));
    vf previous = before ? FM(scan_read_n)(FM_F32, before, x, n) : FM(v_set)(0);
    vf dh = FM(v_load)(call->hidden[0] + b * padded + x), dc = FM(v_load)(call->cell + b * padded + x);
    if (call->doutput) dh += FM(scan_read_n)(call->type, call->doutput, step * width + x, n);
    dc = FM(v_fma)(dh * o, one - c * c, dc);
    vf di = dc * g * i * (one - i), df = dc * previous * f * (one - f);
    vf dg = dc * i * (one - g * g), doo = dh * c * o * (one - o);
    FM(v_store)(call->cell + b * padded + x, reset ? FM(v_set)(0) : dc * f);
    // The product's inner index runs over the four gates without padding.
    FM(scan_write_n)(FM_F32, sums, x, di, n);
    FM(scan_write_n)(FM_F32, sums, width + x, df, n);
    FM(scan_write_n)(FM_F32, sums, 2 * width + x, dg, n);
    FM(scan_write_n)(FM_F32, sums, 3 * width + x, doo, n);
    if (FM(lstm_pairs)(call)) {
      uint16_t *halves = call->halves[0] + b * 4 * padded;
      FM(scan_write_n)(FM_BF16, halves, x, di, n);
      FM(scan_write_n)(FM_BF16, halves, width + x, df, n);
      FM(scan_write_n)(FM_BF16, halves, 2 * width + x, dg, n);
      FM(scan_write_n)(FM_BF16, halves, 3 * width + x, doo, n);
    }
    int64_t at = step * 4 * width + x;
    FM(scan_write_n)(call->type, call->dprojections, at, di, n);
    FM(scan_write_n)(call->type, call->dprojections, at + width, df, n);
    FM(scan_write_n)(call->type, call->dprojections, at + 2 * width, dg, n);
    FM(scan_write_n)(call->type, call->dprojections, at + 3 * width, doo, n);
  }
}

FM_INLINE void FM(lstm_backward_tile)(const int rows, const lstm_call *call, int64_t b, int64_t t, int64_t block) {
  int64_t padded = call->padded, unit = block * LSTM_BLOCK;
  vf acc[LSTM_TILE_ROWS * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows * 4; i++) acc[i] = FM(v_set)(0);
  const float *panel = call->packed + block * call->panel;
#if FM_BF16_INSTRUCTIONS
  if (FM(lstm_pairs)(call))
    FM(lstm_multiply_pairs)(rows, call->halves[0] + b * 4 * padded, 4 * padded, panel, 4 * call->width, acc); else
#endif
  FM(lstm_multiply)(rows, call->dsums + b * 4 * padded, 4 * padded, panel, 4 * call->width, acc);
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++) {
    int reset = call->resets && call->resets[(b + r) * call->length + t];
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++)
      if (unit + c * FM_LANES < padded)
        FM(v_store)(call->hidden[0] + (b + r) * padded + unit + c * FM_LANES, reset ? FM(v_set)(0) : acc[r * 4 + c]);
  }
}

static void FM(lstm_backward_block)(const lstm_call *call, int64_t first, int64_t last, int64_t t, int64_t block) {
  int64_t b = first;
  for (; b + LSTM_TILE_ROWS <= last; b += LSTM_TILE_ROWS) FM(lstm_backward_tile)(LSTM_TILE_ROWS, call, b, t, block);
#if LSTM_TILE_ROWS > 2
  for (; b + 2 <= last; b += 2) FM(lstm_backward_tile)(2, call, b, t, block);
#endif
  for (; b < last; b++) FM(lstm_backward_tile)(1, call, b, t, block);
}

static void FM(lstm_backward_rows)(void *context, int64_t index) {
  const lstm_call *call = context;
  int64_t first = index * call->batch / call->pieces, last = (index + 1) * call->batch / call->pieces;
  for (int64_t t = call->length - 1; t >= 0; t--) {
    for (int64_t b = first; b < last; b++) FM(lstm_backward_gates)(call, b, t, 0, call->width);
    for (int64_t unit = 0; unit < call->width; unit += LSTM_BLOCK)
      FM(lstm_backward_block)(call, first, last, t, unit / LSTM_BLOCK);
  }
}

static void FM(lstm_backward_units)(void *context, int64_t index) {
  const lstm_call *call = context;
  int64_t blocks = (call->width + LSTM_BLOCK - 1) / LSTM_BLOCK;
  for (int64_t block = index * blocks / call->pieces; block < (index + 1) * blocks / call->pieces; block++)
    FM(lstm_backward_block)(call, 0, call->batch, call->step, block);
}

static void FM(lstm_backward)(lstm_call *call) {
  call->panel = (FM(lstm_pairs)(call) ? 2 : 4) * call->width * LSTM_BLOCK;
  fm_parallel((call->width + LSTM_BLOCK - 1) / LSTM_BLOCK, FM(lstm_pack_backward), call);
  if (!call->by_units) { fm_parallel(call->pieces, FM(lstm_backward_rows), call); return; }
  for (call->step = call->length - 1; call->step >= 0; call->step--) {
    for (int64_t b = 0; b < call->batch; b++) FM(lstm_backward_gates)(call, b, call->step, 0, call->width);
    fm_parallel(call->pieces, FM(lstm_backward_units), call);
  }
}

#else
#include <stdlib.h>
#include <string.h>

typedef struct {
  fm_type type;
  const void *projections, *recurrent, *doutput;
  const float *initial_cell;
  const uint8_t *resets;
  void *output, *dprojections;
  float *gates, *cells;  // written by the forward, read by the backward
  int64_t batch, length, width, padded;
  float *packed;        // the recurrent matrix
  float *hidden[2];     // (batch, padded): h of the even and the odd steps; backward, [0] is the gradient of h
  float *cell;          // (batch, padded): c, or its gradient
  float *dsums;         // (batch, 4 padded): the four sums of one step, or their gradients
  uint16_t *halves[2];  // bf16 copies for products of pairs: of `hidden`; backward, [0] is that of `dsums`
  int64_t panel;        // floats of `packed` a block of units takes
  int64_t pieces, step;
  int by_units, direct;
  size_t bytes;  // of the memory at `packed`
} lstm_call;

#define FM_FILE "../lstm.c"
#include "support/each_variant.h"

/// Work per step, in multiplications, from which waking the pool every step pays when there are too few rows.
#define LSTM_WORK_PER_STEP (1 << 18)
/// Pieces up to this length read the recurrent matrix as it lies.
#define LSTM_DIRECT_STEPS 6

/// Carves the scratch memory and plans the split between threads. Returns 0, or -1 without memory.
static int lstm_start(lstm_call *call) {
  size_t weights = (size_t)(4 * call->width * ((call->width + 63) & ~(int64_t)63) + 256);
  size_t rows = (size_t)(call->batch * call->padded);
  call->bytes = sizeof(float) * (weights + (3 + 4 + 2) * rows);
  call->packed = fm_map_memory(call->bytes);  // zeros
  if (!call->packed) return -1;
  call->hidden[0] = call->packed + weights;
  call->hidden[1] = call->hidden[0] + rows;
  call->cell = call->hidden[1] + rows;
  call->dsums = call->cell + rows;
  call->halves[0] = (uint16_t *)(call->dsums + 4 * rows);
  call->halves[1] = call->halves[0] + rows;
  int64_t work = 4 * call->batch * call->width * call->width;
  call->by_units = (call->direct || call->batch < fm_threads()) && work >= LSTM_WORK_PER_STEP;
  call->pieces = call->by_units || call->batch >= fm_threads() ? fm_threads() : call->batch;
  return 0;
}

/// Copies (batch, width) to (batch, padded), zeros where there is nothing.
static void lstm_spread(const lstm_call *call, const float *from, float *to) {
  memset(to, 0, sizeof(float) * (size_t)(call->batch * call->padded));
  for (int64_t b = 0; from && b < call->batch; b++)
    memcpy(to + b * call->padded, from + b * call->width, sizeof(float) * (size_t)call->width);
}
static void lstm_gather(const lstm_call *call, const float *from, float *to) {
  for (int64_t b = 0; to && b < call->batch; b++)
    memcpy(to + b * call->width, from + b * call->padded, sizeof(float) * (size_t)call->width);
}

int fm_lstm(fm_type type, const void *projections, const void *recurrent, const float *initial_hidden,
            const float *initial_cell, const uint8_t *resets, void *output, float *final_hidden, float *final_cell,
            float *gates, float *cells, int64_t batch, int64_t length, int64_t width) {
  if (batch <= 0 || width <= 0) return 0;
  lstm_call call = {.type = type, .projections = projections, .recurrent = recurrent, .resets = resets, .output = output,
                    .gates = gates, .cells = cells, .batch = batch, .length = length > 0 ? length : 0, .width = width,
                    .padded = scan_round_up(width)};
  call.direct = length <= LSTM_DIRECT_STEPS;
  if (lstm_start(&call)) return -1;
  lstm_spread(&call, initial_hidden, call.hidden[0]);
  lstm_spread(&call, initial_cell, call.cell);
  if (length > 0) FM_CALL(lstm_forward)(&call);
  lstm_gather(&call, call.hidden[call.length & 1], final_hidden);
  lstm_gather(&call, call.cell, final_cell);
  fm_unmap_memory(call.packed, call.bytes);
  return 0;
}

int fm_lstm_backward(fm_type type, const void *recurrent, const float *initial_cell, const uint8_t *resets,
                     const float *gates, const float *cells, const void *doutput, const float *dfinal_hidden,
                     const float *dfinal_cell, void *dprojections, float *dinitial_hidden, float *dinitial_cell,
                     int64_t batch, int64_t length, int64_t width) {
  if (batch <= 0 || width <= 0) return 0;
  lstm_call call = {.type = type, .recurrent = recurrent, .doutput = doutput, .initial_cell = initial_cell,
                    .resets = resets, .dprojections = dprojections, .gates = (float *)gates, .cells = (float *)cells,
                    .batch = batch, .length = length > 0 ? length : 0, .width = width, .padded = scan_round_up(width)};
  if (lstm_start(&call)) return -1;
  lstm_spread(&call, dfinal_hidden, call.hidden[0]);
  lstm_spread(&call, dfinal_cell, call.cell);
  if (length > 0) FM_CALL(lstm_backward)(&call);
  lstm_gather(&call, call.hidden[0], dinitial_hidden);
  lstm_gather(&call, call.cell, dinitial_cell);
  fm_unmap_memory(call.packed, call.bytes);
  return 0;
}
#endif
