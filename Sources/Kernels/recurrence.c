// Recurrences in FlashRNN's manner (Poeppel et al. 2024): per step one small product with the recurrent matrix, which is
// packed once a call and stays in the cache over all steps, then the cell on the sums while they are in registers.
//
// Heads and rows of the batch are independent. A thread takes whole heads, or rows of one, through all steps; with fewer of
// them than threads and much work a step, the blocks of units are split instead, step by step. Results are the same in all.
#include "fermata_recurrence.h"
#include <math.h>

#ifdef FM_VARIANT
#include "support/vector_math.h"
#include "support/scan_tile.h"
#include "support/recurrence_cells.h"
#include "support/recurrence_tiles.h"

/// Where a block of FM_LANES units of one row stands.
#undef recurrence_place
#define recurrence_place FM(recurrence_place_type)
typedef struct {
  int64_t head, first, count;  // the head, the block's first unit among all, and how many of its lanes are units
  int64_t at, step;            // its index in scratch rows, and that of the token
} recurrence_place;

FM_INLINE recurrence_place FM(recurrence_locate)(const recurrence_call *call, int64_t b, int64_t t, int64_t block) {
  int64_t head = block / call->head_blocks, unit = block % call->head_blocks * FM_LANES;
  return (recurrence_place){.head = head, .first = head * call->head_width + unit, .count = call->head_width - unit,
                            .at = b * call->row + head * call->padded + unit, .step = b * call->length + t};
}

/// One step of one block of units of row b, from its recurrent sums.
static void FM(recurrence_step)(const recurrence_call *call, int64_t b, int64_t t, int64_t block, const vf *sums) {
  recurrence_place place = FM(recurrence_locate)(call, b, t, block);
  vf x[RECURRENCE_GATES], state[RECURRENCE_STATES], kept[FM_RECURRENCE_KEPT];
  state[0] = FM(v_load)(call->hidden[t & 1] + place.at);
  if (!call->valid || call->valid[place.step]) {
    for (int g = 0; g < call->gates; g++)
      x[g] = FM(scan_read_n)(call->type, call->projections, (place.step * call->gates + g) * call->width + place.first,
                             place.count);
    for (int s = 1; s < call->states; s++) state[s] = FM(v_load)(call->others[s - 1] + place.at);
    FM(recurrence_cells)[call->cell].forward(x, sums, state, kept);
    for (int s = 1; s < call->states; s++) FM(v_store)(call->others[s - 1] + place.at, state[s]);
    for (int k = 0; call->kept && k < FM_RECURRENCE_KEPT; k++)
      FM(scan_write_n)(FM_F32, call->kept, (place.step * FM_RECURRENCE_KEPT + k) * call->width + place.first, kept[k],
                       place.count);
  }
  FM(v_store)(call->hidden[(t + 1) & 1] + place.at, state[0]);
  if (FM(recurrence_pairs)(call)) FM(v_store_bf16)(call->halves[(t + 1) & 1] + place.at, state[0]);
  FM(scan_write_n)(call->type, call->output, place.step * call->width + place.first, state[0], place.count);
}

/// The recurrent bias of a block of units.
FM_INLINE vf FM(recurrence_bias)(const recurrence_call *call, int gate, recurrence_place place) {
  return call->bias ? FM(scan_read_n)(FM_F32, call->bias, gate * call->width + place.first, place.count) : FM(v_set)(0);
}

FM_INLINE void FM(recurrence_forward_tile)(const int rows, const int gates, const recurrence_call *call, int64_t b, int64_t t,
                                           int64_t block) {
  recurrence_place place = FM(recurrence_locate)(call, b, t, block);
  int64_t left = b * call->row + place.head * call->padded;
  vf acc[RECURRENCE_TILE_ROWS * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows * gates; i++) acc[i] = FM(recurrence_bias)(call, i % gates, place);
  const float *panel = call->packed + block * call->panel;
  if (FM(recurrence_pairs)(call))
    FM(recurrence_multiply_pairs)(rows, gates, call->halves[t & 1] + left, call->row, panel, call->head_width, acc);
  else FM(recurrence_multiply)(rows, gates, call->hidden[t & 1] + left, call->row, panel, call->head_width, acc);
  // A copy with a variable index, so that the sums themselves can stay in registers.
  vf sums[RECURRENCE_TILE_ROWS * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows * gates; i++) sums[i] = acc[i];
#pragma clang loop unroll(disable)
  for (int r = 0; r < rows; r++) FM(recurrence_step)(call, b + r, t, block, sums + r * gates);
}

FM_INLINE void FM(recurrence_forward_rows)(const int gates, const recurrence_call *call, int64_t first, int64_t last, int64_t t,
                                           int64_t block) {
  int64_t b = first;
  for (; b + RECURRENCE_TILE_ROWS <= last; b += RECURRENCE_TILE_ROWS)
    FM(recurrence_forward_tile)(RECURRENCE_TILE_ROWS, gates, call, b, t, block);
#if RECURRENCE_TILE_ROWS > 2
  for (; b + 2 <= last; b += 2) FM(recurrence_forward_tile)(2, gates, call, b, t, block);
#endif
  for (; b < last; b++) FM(recurrence_forward_tile)(1, gates, call, b, t, block);
}

static void FM(recurrence_forward_block)(const recurrence_call *call, int64_t first, int64_t last, int64_t t, int64_t block) {
  if (call->gates == 4) FM(recurrence_forward_rows)(4, call, first, last, t, block);
  else FM(recurrence_forward_rows)(3, call, first, last, t, block);
}

/// One block of units of one step straight from the recurrent matrix, for pieces too short to pay for packing it.
static void FM(recurrence_direct_block)(void *context, int64_t block) {
  const recurrence_call *call = context;
  for (int64_t b = 0; b < call->batch; b++) {
    recurrence_place place = FM(recurrence_locate)(call, b, call->step, block);
    const float *before = call->left + b * call->row + place.head * call->padded;
    float lanes[RECURRENCE_GATES * 16] = {0}, four[16];
    for (int64_t u = 0; u < FM_LANES && u < place.count; u += 4) {
      FM(recurrence_dot4)(call, place.head, place.first - place.head * call->head_width + u, before, four);
      for (int i = 0; i < 16; i++) lanes[i / 4 * 16 + u + i % 4] = four[i];
    }
    vf sums[RECURRENCE_GATES];
    for (int g = 0; g < call->gates; g++) sums[g] = FM(v_load)(lanes + g * 16) + FM(recurrence_bias)(call, g, place);
    FM(recurrence_step)(call, b, call->step, block, sums);
  }
}

/// Empties the states of rows of a head whose document starts at t.
static void FM(recurrence_reset)(const recurrence_call *call, int64_t head, int64_t first, int64_t last, int64_t t) {
  for (int64_t b = first; call->resets && b < last; b++) {
    if (!call->resets[b * call->length + t]) continue;
    for (int64_t x = 0; x < call->padded; x++) {
      int64_t at = b * call->row + head * call->padded + x;
      call->hidden[t & 1][at] = 0;
      call->halves[t & 1][at] = 0;
      for (int s = 1; s < call->states; s++) call->others[s - 1][at] = recurrence_sizes[call->cell].empty[s];
    }
  }
}

/// The part of (head, row) pairs of one thread through all steps: `body` once for each head.
FM_INLINE void FM(recurrence_split)(const recurrence_call *call, int64_t index,
                                    void (*body)(const recurrence_call *, int64_t head, int64_t first, int64_t last)) {
  int64_t all = call->heads * call->batch, at = index * all / call->pieces, end = (index + 1) * all / call->pieces;
  while (at < end) {
    int64_t head = at / call->batch, first = at - head * call->batch, last = end - head * call->batch;
    if (last > call->batch) last = call->batch;
    body(call, head, first, last);
    at = head * call->batch + last;
  }
}

static void FM(recurrence_forward_head)(const recurrence_call *call, int64_t head, int64_t first, int64_t last) {
  for (int64_t t = 0; t < call->length; t++) {
    FM(recurrence_reset)(call, head, first, last, t);
    for (int64_t block = head * call->head_blocks; block < (head + 1) * call->head_blocks; block++)
      FM(recurrence_forward_block)(call, first, last, t, block);
  }
}

static void FM(recurrence_forward_part)(void *context, int64_t index) {
  FM(recurrence_split)(context, index, FM(recurrence_forward_head));
}

static void FM(recurrence_forward_units)(void *context, int64_t index) {
  const recurrence_call *call = context;
  int64_t blocks = call->heads * call->head_blocks;
  for (int64_t block = index * blocks / call->pieces; block < (index + 1) * blocks / call->pieces; block++)
    FM(recurrence_forward_block)(call, 0, call->batch, call->step, block);
}

static void FM(recurrence_direct)(recurrence_call *call) {
  int64_t blocks = call->heads * call->head_blocks;
  for (call->step = 0; call->step < call->length; call->step++) {
    for (int64_t head = 0; head < call->heads; head++) FM(recurrence_reset)(call, head, 0, call->batch, call->step);
    call->left = call->hidden[call->step & 1];
    if (FM(recurrence_pairs)(call)) {  // The product rounds as the packed one does.
      for (int64_t x = 0; x < call->batch * call->row; x += FM_LANES) {
        uint16_t halves[FM_LANES];
        FM(v_store_bf16)(halves, FM(v_load)(call->left + x));
        FM(v_store)(call->rounded + x, FM(v_load_bf16)(halves));
      }
      call->left = call->rounded;
    }
    if (call->by_units) fm_parallel(blocks, FM(recurrence_direct_block), call);
    else for (int64_t block = 0; block < blocks; block++) FM(recurrence_direct_block)(call, block);
  }
}

static void FM(recurrence_forward)(recurrence_call *call) {
  int pairs = FM(recurrence_pairs)(call);
  call->head_blocks = (call->head_width + FM_LANES - 1) / FM_LANES;
  if (call->direct) { FM(recurrence_direct)(call); return; }
  call->panel = (call->head_width + 1) / (pairs ? 2 : 1) * call->gates * FM_LANES;
  fm_parallel(call->heads * call->head_blocks, FM(recurrence_pack_forward), call);
  for (int64_t x = 0; pairs && x < call->batch * call->row; x += FM_LANES)
    FM(v_store_bf16)(call->halves[0] + x, FM(v_load)(call->hidden[0] + x));
  if (!call->by_units) { fm_parallel(call->pieces, FM(recurrence_forward_part), call); return; }
  for (call->step = 0; call->step < call->length; call->step++) {
    for (int64_t head = 0; head < call->heads; head++) FM(recurrence_reset)(call, head, 0, call->batch, call->step);
    fm_parallel(call->pieces, FM(recurrence_forward_units), call);
  }
}

/// Writes the gradients of one gate's sums and projections for a block of units: for the caller, and for the product.
FM_INLINE void FM(recurrence_write_gate)(const recurrence_call *call, recurrence_place place, int64_t b, int g, vf dsum, vf dx) {
  int64_t to = (place.step * call->gates + g) * call->width + place.first, unit = place.first - place.head * call->head_width;
  int64_t inner = (b * call->heads + place.head) * call->inner + g * call->head_width + unit;
  FM(scan_write_n)(call->type, call->dprojections, to, dx, place.count);
  if (call->dsums) FM(scan_write_n)(call->type, call->dsums, to, dsum, place.count);
  if (FM(recurrence_pairs)(call)) FM(scan_write_n)(FM_BF16, call->halves[0], inner, dsum, place.count);
  else FM(scan_write_n)(FM_F32, call->sums, inner, dsum, place.count);
}

/// The cell's part of one step backward for one block of units of row b: from the gradients of the states after the step to
/// those of the sums and, but for what comes through the recurrent matrix, of the states before.
static void FM(recurrence_unstep)(const recurrence_call *call, int64_t b, int64_t t, int64_t block) {
  recurrence_place place = FM(recurrence_locate)(call, b, t, block);
  vf zero = FM(v_set)(0), state[RECURRENCE_STATES], kept[FM_RECURRENCE_KEPT], dsums[RECURRENCE_GATES], dx[RECURRENCE_GATES];
  for (int g = 0; g < call->gates; g++) dsums[g] = dx[g] = zero;
  state[0] = FM(v_load)(call->hidden[0] + place.at);
  if (call->doutput)
    state[0] += FM(scan_read_n)(call->type, call->doutput, place.step * call->width + place.first, place.count);
  for (int s = 1; s < call->states; s++) state[s] = FM(v_load)(call->others[s - 1] + place.at);
  if (!call->valid || call->valid[place.step]) {
    for (int k = 0; k < FM_RECURRENCE_KEPT; k++)
      kept[k] = FM(scan_read_n)(FM_F32, call->kept, (place.step * FM_RECURRENCE_KEPT + k) * call->width + place.first,
                                place.count);
    FM(recurrence_cells)[call->cell].backward(kept, state, dsums, dx);
  }
  for (int g = 0; g < call->gates; g++) FM(recurrence_write_gate)(call, place, b, g, dsums[g], dx[g]);
  int reset = call->resets && call->resets[place.step];
  FM(v_store)(call->hidden[0] + place.at, reset ? zero : state[0]);
  for (int s = 1; s < call->states; s++) FM(v_store)(call->others[s - 1] + place.at, reset ? zero : state[s]);
}

/// Adds what comes back through the recurrent matrix to the gradient of the hidden state before.
FM_INLINE void FM(recurrence_backward_tile)(const int rows, const recurrence_call *call, int64_t b, int64_t t, int64_t block) {
  int64_t head = block / call->head_panels, unit = block % call->head_panels * RECURRENCE_COLUMNS;
  int64_t left = (b * call->heads + head) * call->inner, left_row = call->heads * call->inner;
  vf acc[RECURRENCE_TILE_ROWS * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows * 4; i++) acc[i] = FM(v_set)(0);
  const float *panel = call->packed + block * call->panel;
  int64_t inner = call->gates * call->head_width;
  if (FM(recurrence_pairs)(call)) FM(recurrence_multiply_pairs)(rows, 4, call->halves[0] + left, left_row, panel, inner, acc);
  else FM(recurrence_multiply)(rows, 4, call->sums + left, left_row, panel, inner, acc);
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++) {
    int reset = call->resets && call->resets[(b + r) * call->length + t];
    float *to = call->hidden[0] + (b + r) * call->row + head * call->padded + unit;
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++)
      if (unit + c * FM_LANES < call->padded && !reset)
        FM(v_store)(to + c * FM_LANES, FM(v_load)(to + c * FM_LANES) + acc[r * 4 + c]);
  }
}

static void FM(recurrence_backward_block)(const recurrence_call *call, int64_t first, int64_t last, int64_t t, int64_t block) {
  int64_t b = first;
  for (; b + RECURRENCE_TILE_ROWS <= last; b += RECURRENCE_TILE_ROWS)
    FM(recurrence_backward_tile)(RECURRENCE_TILE_ROWS, call, b, t, block);
#if RECURRENCE_TILE_ROWS > 2
  for (; b + 2 <= last; b += 2) FM(recurrence_backward_tile)(2, call, b, t, block);
#endif
  for (; b < last; b++) FM(recurrence_backward_tile)(1, call, b, t, block);
}

static void FM(recurrence_backward_head)(const recurrence_call *call, int64_t head, int64_t first, int64_t last) {
  for (int64_t t = call->length - 1; t >= 0; t--) {
    for (int64_t b = first; b < last; b++)
      for (int64_t block = head * call->head_blocks; block < (head + 1) * call->head_blocks; block++)
        FM(recurrence_unstep)(call, b, t, block);
    for (int64_t block = head * call->head_panels; block < (head + 1) * call->head_panels; block++)
      FM(recurrence_backward_block)(call, first, last, t, block);
  }
}

static void FM(recurrence_backward_part)(void *context, int64_t index) {
  FM(recurrence_split)(context, index, FM(recurrence_backward_head));
}

static void FM(recurrence_backward_units)(void *context, int64_t index) {
  const recurrence_call *call = context;
  int64_t blocks = call->heads * call->head_panels;
  for (int64_t block = index * blocks / call->pieces; block < (index + 1) * blocks / call->pieces; block++)
    FM(recurrence_backward_block)(call, 0, call->batch, call->step, block);
}

static void FM(recurrence_backward)(recurrence_call *call) {
  call->head_blocks = (call->head_width + FM_LANES - 1) / FM_LANES;
  call->head_panels = (call->head_width + RECURRENCE_COLUMNS - 1) / RECURRENCE_COLUMNS;
  call->panel = (call->gates * call->head_width + 1) / (FM(recurrence_pairs)(call) ? 2 : 1) * RECURRENCE_COLUMNS;
  fm_parallel(call->heads * call->head_panels, FM(recurrence_pack_backward), call);
  if (!call->by_units) { fm_parallel(call->pieces, FM(recurrence_backward_part), call); return; }
  for (call->step = call->length - 1; call->step >= 0; call->step--) {
    for (int64_t b = 0; b < call->batch; b++)
      for (int64_t block = 0; block < call->heads * call->head_blocks; block++)
        FM(recurrence_unstep)(call, b, call->step, block);
    fm_parallel(call->pieces, FM(recurrence_backward_units), call);
  }
}

#else
#include <string.h>

/// Heads from this width take pairs of bf16 where the processor multiplies them.
#define RECURRENCE_PAIRS_WIDTH 128
/// Work per step, in multiplications, from which waking the pool every step pays when there are too few heads and rows.
#define RECURRENCE_WORK_PER_STEP (1 << 18)
/// Pieces up to this length read the recurrent matrix as it lies.
#define RECURRENCE_DIRECT_STEPS 6

typedef struct {
  fm_cell cell;
  fm_type type;
  int gates, states;
  int64_t batch, length, width, heads, head_width;
  const uint8_t *resets, *valid;
  const void *projections, *recurrent, *doutput;
  const float *bias;
  void *output, *dprojections, *dsums;
  float *kept;  // written by the forward, read by the backward
  // Scratch rows: a head takes `padded` floats, a row of the batch `row`.
  int64_t padded, row;
  float *hidden[2];     // (batch, row): h of the even and the odd steps; backward, [0] is the gradient of h
  float *others[2];     // (batch, row): the other states, or their gradients
  float *rounded;       // (batch, row): h rounded to bf16, for products straight from the matrix
  const float *left;    // h as such a product reads it
  float *sums;          // (batch, heads, inner): backward, the gradients of one step's sums, all gates of a head in a row
  uint16_t *halves[2];  // bf16 copies for products of pairs: of `hidden`; backward, [0] is that of `sums`
  int64_t inner;
  // The packed recurrent matrix: blocks of units forward, panels of columns backward, `panel` floats each.
  float *packed;
  int64_t head_blocks, head_panels, panel;
  int64_t pieces, step;
  int by_units, direct;
  size_t bytes;  // of the memory at `packed`
} recurrence_call;

#define FM_FILE "../recurrence.c"
#include "support/each_variant.h"

int fm_recurrence_gates(fm_cell cell) { return recurrence_sizes[cell].gates; }
int fm_recurrence_states(fm_cell cell) { return recurrence_sizes[cell].states; }

/// Carves the scratch memory and plans the split between threads. Returns 0, or -1 without memory.
static int recurrence_start(recurrence_call *call, const fm_recurrence_shape *shape) {
  call->cell = shape->cell, call->type = shape->type;
  call->gates = recurrence_sizes[shape->cell].gates, call->states = recurrence_sizes[shape->cell].states;
  call->batch = shape->batch, call->length = shape->length > 0 ? shape->length : 0;
  call->width = shape->width, call->heads = shape->heads, call->head_width = shape->width / shape->heads;
  call->resets = shape->resets, call->valid = shape->valid;
  call->padded = scan_round_up(call->head_width), call->row = call->heads * call->padded;
  call->inner = scan_round_up(call->gates * call->head_width);
  size_t columns = (size_t)((call->head_width + 63) & ~(int64_t)63);
  size_t weights = (size_t)(call->heads * call->gates * (call->head_width + 1)) * columns + 256;
  size_t rows = (size_t)(call->batch * call->row);
  call->bytes = sizeof(float) * (weights + (5 + RECURRENCE_GATES + 2) * rows);
  call->packed = fm_map_memory(call->bytes);  // zeros
  if (!call->packed) return -1;
  float *next = call->packed + weights;
  float **parts[] = {&call->hidden[0], &call->hidden[1], &call->others[0], &call->others[1], &call->rounded};
  for (int i = 0; i < 5; i++, next += rows) *parts[i] = next;
  call->sums = next;
  call->halves[0] = (uint16_t *)(next + RECURRENCE_GATES * rows);
  call->halves[1] = call->halves[0] + rows;
  int64_t work = call->gates * call->batch * call->width * call->head_width, shares = call->heads * call->batch;
  call->by_units = (call->direct || shares < fm_threads()) && work >= RECURRENCE_WORK_PER_STEP;
  call->pieces = call->by_units || shares >= fm_threads() ? fm_threads() : shares;
  return 0;
}

/// Copies heads of (batch, width) to rows of scratch memory, and back.
static void recurrence_spread(const recurrence_call *call, const float *from, float *to) {
  for (int64_t i = 0; from && i < call->batch * call->heads; i++)
    memcpy(to + i * call->padded, from + i * call->head_width, sizeof(float) * (size_t)call->head_width);
}
static void recurrence_gather(const recurrence_call *call, const float *from, float *to) {
  for (int64_t i = 0; i < call->batch * call->heads; i++)
    memcpy(to + i * call->head_width, from + i * call->padded, sizeof(float) * (size_t)call->head_width);
}

int fm_recurrence(const fm_recurrence_shape *shape, const void *projections, const void *recurrent, const float *bias,
                  const float *const *initial, void *output, float *const *final, float *kept) {
  if (shape->batch <= 0 || shape->width <= 0) return 0;
  recurrence_call call = {.projections = projections, .recurrent = recurrent, .bias = bias, .output = output, .kept = kept,
                          .direct = shape->length <= RECURRENCE_DIRECT_STEPS};
  if (recurrence_start(&call, shape)) return -1;
  recurrence_spread(&call, initial[0], call.hidden[0]);
  for (int s = 1; s < call.states; s++) recurrence_spread(&call, initial[s], call.others[s - 1]);
  if (call.length > 0) FM_CALL(recurrence_forward)(&call);
  recurrence_gather(&call, call.hidden[call.length & 1], final[0]);
  for (int s = 1; s < call.states; s++) recurrence_gather(&call, call.others[s - 1], final[s]);
  fm_unmap_memory(call.packed, call.bytes);
  return 0;
}

int fm_recurrence_backward(const fm_recurrence_shape *shape, const void *recurrent, const float *kept, const void *doutput,
                           const float *const *dfinal, void *dprojections, void *dsums, float *const *dinitial) {
  if (shape->batch <= 0 || shape->width <= 0) return 0;
  recurrence_call call = {.recurrent = recurrent, .kept = (float *)kept, .doutput = doutput, .dprojections = dprojections,
                          .dsums = dsums};
  if (recurrence_start(&call, shape)) return -1;
  recurrence_spread(&call, dfinal[0], call.hidden[0]);
  for (int s = 1; s < call.states; s++) recurrence_spread(&call, dfinal[s], call.others[s - 1]);
  if (call.length > 0) FM_CALL(recurrence_backward)(&call);
  recurrence_gather(&call, call.hidden[0], dinitial[0]);
  for (int s = 1; s < call.states; s++) recurrence_gather(&call, call.others[s - 1], dinitial[s]);
  fm_unmap_memory(call.packed, call.bytes);
  return 0;
}
#endif
