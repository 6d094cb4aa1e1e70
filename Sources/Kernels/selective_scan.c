// Mamba's selective scan.
//
// A task is a row of the batch and a block of channels. It walks the tokens in chunks of FM_SELECTIVE_CHUNK: inside a chunk one
// vector of channels goes through all tokens with its states beside it, so that no sum crosses lanes. The exponentials are most
// of the work; they are powers of two, because a is multiplied by log2(e) beforehand.
//
// The forward keeps the state before each chunk. The backward takes segments of chunks, last first: each chunk is run again from
// its state, keeping states and decays of its tokens, and then walked backwards. The gradients of b and c are sums over channels:
// each block of channels leaves its part for the segment, and the parts are added in order.
#include "fermata_selective_scan.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"
#include "support/vector_math.h"

/// 2^x for x <= 0: x = n + f, |f| <= 1/2, a polynomial in f that is exact at 0 (it interpolates (2^f - 1) / f at Chebyshev
/// nodes), then the exponent. Below -126 the result is next to nothing; NaN stays NaN.
FM_INLINE vf FM(selective_exp2)(vf x) {
#pragma clang fp contract(fast)
  vf least = FM(v_set)(-126.0f);
#if FM_LANES == 16
  x = (vf)_mm512_max_ps((__m512)least, (__m512)x);
  vf n = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  x = FM(v_select)(x < least, least, x);
  vf magic = FM(v_set)(12582912.0f), n = (x + magic) - magic;
#endif
  vf f = x - n, p = FM(v_set)(1.54531629451e-4f);
  p = p * f + FM(v_set)(1.33908633647e-3f);
  p = p * f + FM(v_set)(9.61808255728e-3f);
  p = p * f + FM(v_set)(5.55035711422e-2f);
  p = p * f + FM(v_set)(2.40226507606e-1f);
  p = p * f + FM(v_set)(6.93147188026e-1f);
  p = p * f + FM(v_set)(1.0f);
#if FM_LANES == 16
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  vi exponent = __builtin_convertvector(FM(v_select)(n == n, n, FM(v_set)(0)), vi);
  return p * (vf)((exponent + FM(v_seti)(127)) << 23);
#endif
}

FM_INLINE vf FM(selective_softplus)(vf x) {
  return FM(v_maximum)(x, FM(v_set)(0)) + FM(v_log1p)(FM(v_exp)(-FM(v_abs)(x)));
}

/// The rows of b or c of a chunk, as f32 (positions, states).
static void FM(selective_load_rows)(fm_type type, const void *from, const int64_t stride[2], int64_t b, int64_t first,
                                    int64_t last, int64_t states, float *to) {
  for (int64_t i = first; i < last; i++, to += states) {
    int64_t at = b * stride[0] + i * stride[1];
    for (int64_t n = 0; n < states; n += FM_LANES)
      FM(scan_write_n)(FM_F32, to, n, FM(scan_read_n)(type, from, at + n, states - n), states - n);
  }
}

/// Copies a block of (states, channels) rows between memory and the vectors of the scratch, (vector, state, lane).
static void FM(selective_load_block)(const selective_task *t, const float *from, float factor, float *to) {
  for (int64_t c = 0; c < t->channels; c += FM_LANES)
    for (int64_t n = 0; n < t->shape->states; n++, to += FM_LANES) {
      vf row = from ? FM(scan_read_n)(FM_F32, from, n * t->shape->channels + c, t->channels - c) : FM(v_set)(0);
      FM(v_store)(to, row * FM(v_set)(factor));
    }
}
static void FM(selective_store_block)(const selective_task *t, const float *from, float *to) {
  for (int64_t c = 0; c < t->channels; c += FM_LANES)
    for (int64_t n = 0; n < t->shape->states; n++, from += FM_LANES)
      FM(scan_write_n)(FM_F32, to, n * t->shape->channels + c, FM(v_load)(from), t->channels - c);
}

/// A token's activations for one vector of channels, all in f32.
typedef struct {
  vf x, raw, step, skip;
} FM(selective_token);

FM_INLINE FM(selective_token) FM(selective_read)(const fm_type type, const selective_task *t, int64_t i, int64_t c) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t n = t->channels - c, channel = t->first + c;
  FM(selective_token) token;
  token.x = FM(scan_read_n)(type, s->x, t->b * s->x_stride[0] + i * s->x_stride[1] + channel, n);
  token.raw = FM(scan_read_n)(type, s->step, t->b * s->step_stride[0] + i * s->step_stride[1] + channel, n) +
              FM(scan_read_n)(FM_F32, s->step_bias, channel, n);
  token.step = FM(selective_softplus)(token.raw);
  token.skip = FM(scan_read_n)(FM_F32, s->skip, channel, n);
  return token;
}
FM_INLINE vf FM(selective_read_gate)(const fm_type type, const selective_task *t, int64_t i, int64_t c) {
  const fm_selective_scan_shape *s = t->shape;
  return FM(scan_read_n)(type, s->gate, t->b * s->gate_stride[0] + i * s->gate_stride[1] + t->first + c, t->channels - c);
}
FM_INLINE void FM(selective_write)(const fm_type type, const selective_task *t, void *to, int64_t i, int64_t c, vf v) {
  const fm_selective_scan_shape *s = t->shape;
  FM(scan_write_n)(type, to, (t->b * s->length + i) * s->channels + t->first + c, v, t->channels - c);
}

/// Forward of one vector of channels through one chunk.
FM_INLINE void FM(selective_run)(const fm_type type, const selective_task *t, int64_t c, int64_t first, int64_t last) {
  int64_t states = t->shape->states;
  float *h = t->state + c * states;
  const float *a = t->a + c * states;
  for (int64_t i = first; i < last; i++) {
    if (selective_resets(t, i)) memset(h, 0, sizeof(float) * FM_LANES * (size_t)states);
    if (!selective_valid(t, i)) {
      FM(selective_write)(type, t, t->output, i, c, FM(v_set)(0));
      continue;
    }
    FM(selective_token) token = FM(selective_read)(type, t, i, c);
    const float *b = t->b_rows + (i - first) * states, *read = t->c_rows + (i - first) * states;
    vf input = token.step * token.x, y = token.skip * token.x;
    for (int64_t n = 0; n < states; n++) {
      vf decay = FM(selective_exp2)(token.step * FM(v_load)(a + n * FM_LANES));
      vf state = FM(v_fma)(decay, FM(v_load)(h + n * FM_LANES), input * FM(v_set)(b[n]));
      FM(v_store)(h + n * FM_LANES, state);
      y = FM(v_fma)(state, FM(v_set)(read[n]), y);
    }
    if (t->shape->gate) {
      vf gate = FM(selective_read_gate)(type, t, i, c);
      y *= gate * FM(v_sigmoid)(gate);
    }
    FM(selective_write)(type, t, t->output, i, c, y);
  }
}

static void FM(selective_forward)(const selective_task *t) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t block = t->b * s->states * s->channels + t->first, chunks = selective_chunks(s);
  FM(selective_load_block)(t, s->a + t->first, 1.44269504088896341f, t->a);
  FM(selective_load_block)(t, t->initial_state ? t->initial_state + block : NULL, 1, t->state);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    int64_t first = chunk * FM_SELECTIVE_CHUNK, last = selective_end(s, first + FM_SELECTIVE_CHUNK);
    if (t->chunk_states)
      FM(selective_store_block)(t, t->state, t->chunk_states + (t->b * chunks + chunk) * s->states * s->channels + t->first);
    FM(selective_load_rows)(s->type, s->b, s->b_stride, t->b, first, last, s->states, t->b_rows);
    FM(selective_load_rows)(s->type, s->c, s->c_stride, t->b, first, last, s->states, t->c_rows);
    for (int64_t c = 0; c < t->channels; c += FM_LANES)
      if (s->type == FM_F32) FM(selective_run)(FM_F32, t, c, first, last);
      else FM(selective_run)(FM_BF16, t, c, first, last);
  }
  FM(selective_store_block)(t, t->state, t->final_state + block);
}

/// Runs a chunk again for one vector of channels: the state after each of its tokens (the one before it first), the decays, and
/// y, which the gate's gradient needs.
FM_INLINE void FM(selective_rerun)(const fm_type type, const selective_task *t, int64_t c, int64_t first, int64_t last) {
  int64_t states = t->shape->states, row = states * FM_LANES;
  const float *a = t->a + c * states;
  memcpy(t->run_states, t->state + c * states, sizeof(float) * (size_t)row);
  for (int64_t i = first; i < last; i++) {
    float *before = t->run_states + (i - first) * row, *after = before + row, *decays = t->run_decays + (i - first) * row;
    // What a document's start forgets nobody reads again: its decays count as zero.
    int starts = selective_resets(t, i);
    if (!selective_valid(t, i)) {
      if (starts) memset(after, 0, sizeof(float) * (size_t)row);
      else memcpy(after, before, sizeof(float) * (size_t)row);
      continue;
    }
    FM(selective_token) token = FM(selective_read)(type, t, i, c);
    const float *b = t->b_rows + (i - first) * states, *read = t->c_rows + (i - first) * states;
    vf input = token.step * token.x, y = token.skip * token.x;
    for (int64_t n = 0; n < states; n++) {
      vf decay = starts ? FM(v_set)(0) : FM(selective_exp2)(token.step * FM(v_load)(a + n * FM_LANES));
      vf state = FM(v_fma)(decay, FM(v_load)(before + n * FM_LANES), input * FM(v_set)(b[n]));
      FM(v_store)(decays + n * FM_LANES, decay);
      FM(v_store)(after + n * FM_LANES, state);
      y = FM(v_fma)(state, FM(v_set)(read[n]), y);
    }
    FM(v_store)(t->run_outputs + (i - first) * FM_LANES, y);
  }
}

/// The gradients of one token for one vector of channels; t->dstate is that of the state after it and becomes that of the one before.
FM_INLINE void FM(selective_step_back)(const fm_type type, const selective_task *t, int64_t i, int64_t first, int64_t c,
                                       vf *dskip, vf *dbias) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t states = s->states, row = states * FM_LANES, at = i - first;
  const float *before = t->run_states + at * row, *after = before + row, *decays = t->run_decays + at * row;
  const float *a = t->a + c * states, *b = t->b_rows + at * states, *read = t->c_rows + at * states;
  float *dstate = t->dstate + c * states, *da = t->da + c * states;
  FM(selective_token) token = FM(selective_read)(type, t, i, c);
  vf dy = FM(v_set)(0);
  if (t->doutput)
    dy = FM(scan_read_n)(type, t->doutput, (t->b * s->length + i) * s->channels + t->first + c, t->channels - c);
  if (s->gate) {
    vf gate = FM(selective_read_gate)(type, t, i, c), sigmoid = FM(v_sigmoid)(gate), one = FM(v_set)(1);
    vf slope = sigmoid * FM(v_fma)(gate, one - sigmoid, one);
    FM(selective_write)(type, t, t->gradients->dgate, i, c, dy * FM(v_load)(t->run_outputs + at * FM_LANES) * slope);
    dy *= gate * sigmoid;
  }
  vf input = token.step * token.x, dinput = FM(v_set)(0), dstep = FM(v_set)(0);
  for (int64_t n = 0; n < states; n++) {
    int64_t lane = n * FM_LANES;
    vf g = FM(v_fma)(dy, FM(v_set)(read[n]), FM(v_load)(dstate + lane));
    FM(v_store)(t->dc_parts + lane, dy * FM(v_load)(after + lane));
    FM(v_store)(t->db_parts + lane, g * input);
    dinput = FM(v_fma)(g, FM(v_set)(b[n]), dinput);
    g *= FM(v_load)(decays + lane);
    FM(v_store)(dstate + lane, g);
    vf through = g * FM(v_load)(before + lane);
    dstep = FM(v_fma)(through, FM(v_load)(a + lane), dstep);
    FM(v_store)(da + lane, FM(v_fma)(through, token.step, FM(v_load)(da + lane)));
  }
  // t->a holds a log2(e).
  dstep = FM(v_fma)(dinput, token.x, dstep * FM(v_set)(0.69314718055994531f)) * FM(v_sigmoid)(token.raw);
  *dskip = FM(v_fma)(dy, token.x, *dskip);
  *dbias += dstep;
  FM(selective_write)(type, t, t->gradients->dstep, i, c, dstep);
  FM(selective_write)(type, t, t->gradients->dx, i, c, FM(v_fma)(dinput, token.step, dy * token.skip));
}

/// Adds the sums over the lanes of a token's parts (states_padded, lane) of db or dc to its row.
FM_INLINE void FM(selective_add_parts)(const float *parts, int64_t padded, float *row) {
  for (int64_t n = 0; n < padded; n += 16, parts += 16 * FM_LANES) {
    vf part[16];
    float sums[16];
    for (int i = 0; i < 16; i++) part[i] = FM(v_load)(parts + i * FM_LANES);
    FM(scan_sum16)(part, sums);
    for (int64_t x = n; x < n + 16; x += FM_LANES) FM(v_store)(row + x, FM(v_load)(row + x) + FM(v_load)(sums + x - n));
  }
}

FM_INLINE void FM(selective_walk_back)(const fm_type type, const selective_task *t, int64_t c, int64_t first, int64_t last) {
  int64_t states = t->shape->states;
  vf dskip = FM(v_set)(0), dbias = FM(v_set)(0);
  memset(t->da + c * states, 0, sizeof(float) * (size_t)(states * FM_LANES));
  for (int64_t i = last - 1; i >= first; i--) {
    if (!selective_valid(t, i)) {
      FM(selective_write)(type, t, t->gradients->dx, i, c, FM(v_set)(0));
      FM(selective_write)(type, t, t->gradients->dstep, i, c, FM(v_set)(0));
      if (t->shape->gate) FM(selective_write)(type, t, t->gradients->dgate, i, c, FM(v_set)(0));
      if (selective_resets(t, i)) memset(t->dstate + c * states, 0, sizeof(float) * (size_t)(states * FM_LANES));
      continue;
    }
    FM(selective_step_back)(type, t, i, first, c, &dskip, &dbias);
    FM(selective_add_parts)(t->db_parts, t->states_padded, t->db_rows + (i - first) * t->states_padded);
    FM(selective_add_parts)(t->dc_parts, t->states_padded, t->dc_rows + (i - first) * t->states_padded);
  }
  // Sums of a chunk at a time, so that rounding does not pile up with the number of tokens.
  int64_t channels = t->shape->channels, left = t->channels - c;
  float *sums = t->sums + t->b * (states + 2) * channels + t->first + c;
  for (int64_t n = 0; n < states + 2; n++, sums += channels) {
    vf part = n < states ? FM(v_load)(t->da + c * states + n * FM_LANES) : n == states ? dskip : dbias;
    FM(scan_write_n)(FM_F32, sums, 0, FM(scan_read_n)(FM_F32, sums, 0, left) + part, left);
  }
}

static void FM(selective_backward)(const selective_task *t) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t states = s->states, chunks = selective_chunks(s), padded = t->states_padded;
  float *carried = t->gradients->dinitial_state + t->b * states * s->channels + t->first;
  FM(selective_load_block)(t, s->a + t->first, 1.44269504088896341f, t->a);
  FM(selective_load_block)(t, carried, 1, t->dstate);
  memset(t->db_parts, 0, sizeof(float) * (size_t)(padded * FM_LANES));
  memset(t->dc_parts, 0, sizeof(float) * (size_t)(padded * FM_LANES));
  for (int64_t chunk = selective_chunk_of(t->segment_last - 1); chunk >= selective_chunk_of(t->segment_first); chunk--) {
    int64_t first = chunk * FM_SELECTIVE_CHUNK, last = selective_end(s, first + FM_SELECTIVE_CHUNK);
    FM(selective_load_block)(t, t->kept_states + (t->b * chunks + chunk) * states * s->channels + t->first, 1, t->state);
    FM(selective_load_rows)(s->type, s->b, s->b_stride, t->b, first, last, states, t->b_rows);
    FM(selective_load_rows)(s->type, s->c, s->c_stride, t->b, first, last, states, t->c_rows);
    memset(t->db_rows, 0, sizeof(float) * (size_t)(2 * FM_SELECTIVE_CHUNK * padded));
    for (int64_t c = 0; c < t->channels; c += FM_LANES)
      if (s->type == FM_F32) {
        FM(selective_rerun)(FM_F32, t, c, first, last);
        FM(selective_walk_back)(FM_F32, t, c, first, last);
      } else {
        FM(selective_rerun)(FM_BF16, t, c, first, last);
        FM(selective_walk_back)(FM_BF16, t, c, first, last);
      }
    float *parts = t->parts + (first - t->segment_first) * 2 * states;
    for (int64_t at = 0; at < last - first; at++, parts += 2 * states) {
      memcpy(parts, t->db_rows + at * padded, sizeof(float) * (size_t)states);
      memcpy(parts + states, t->dc_rows + at * padded, sizeof(float) * (size_t)states);
    }
  }
  FM(selective_store_block)(t, t->dstate, carried);
}

/// db and dc of some positions of a segment: the sums of what the blocks of channels left, in order.
static void FM(selective_sum_parts)(const selective_task *t, int64_t blocks, int64_t block_step, int64_t first, int64_t last) {
  int64_t states = t->shape->states;
  for (int64_t i = first; i < last; i++)
    for (int64_t half = 0; half < 2; half++)
      for (int64_t n = 0; n < states; n += FM_LANES) {
        const float *part = t->parts + ((i - t->segment_first) * 2 + half) * states;
        vf sum = FM(v_set)(0);
        for (int64_t block = 0; block < blocks; block++) sum += FM(scan_read_n)(FM_F32, part, block * block_step + n, states - n);
        FM(scan_write_n)(t->shape->type, half ? t->gradients->dc : t->gradients->db, (t->b * t->shape->length + i) * states + n,
                         sum, states - n);
      }
}

#else
#include <stdlib.h>
#include <string.h>

/// Channels that go together: enough to share the rows of b and c, few enough to spread over threads. Not a matter of threads,
/// so that sums over channels are always taken in the same order.
#define SELECTIVE_BLOCK 64
/// Positions whose parts of db and dc wait to be added.
#define SELECTIVE_SEGMENT 256

typedef struct {
  const fm_selective_scan_shape *shape;
  const float *initial_state, *kept_states;
  const void *doutput;
  void *output;
  float *final_state, *chunk_states;
  const fm_selective_scan_gradients *gradients;
  int64_t b, first, channels;           // the row of the batch and the block of channels
  int64_t segment_first, segment_last;  // positions
  int64_t states_padded;
  float *sums;   // (batch, states + 2, channels): each row's part of da, dskip and dstep_bias
  float *parts;  // (segment, 2, states): this block's and row's part of db and dc
  // Scratch of the thread. Blocks are (vector, state, lane), rows (position, states).
  float *a, *state, *dstate, *da, *b_rows, *c_rows, *db_rows, *dc_rows;
  float *run_states, *run_decays, *run_outputs;  // one vector of channels through one chunk
  float *db_parts, *dc_parts;                    // of one token, (state, lane)
} selective_task;

static inline int selective_resets(const selective_task *t, int64_t i) {
  return t->shape->resets && t->shape->resets[t->b * t->shape->length + i];
}
static inline int selective_valid(const selective_task *t, int64_t i) {
  return !t->shape->valid || t->shape->valid[t->b * t->shape->length + i];
}
static inline int64_t selective_chunk_of(int64_t i) { return i / FM_SELECTIVE_CHUNK; }
static inline int64_t selective_chunks(const fm_selective_scan_shape *s) {
  return (s->length + FM_SELECTIVE_CHUNK - 1) / FM_SELECTIVE_CHUNK;
}
static inline int64_t selective_end(const fm_selective_scan_shape *s, int64_t end) { return end < s->length ? end : s->length; }

#define FM_FILE "../selective_scan.c"
#include "support/each_variant.h"

typedef struct {
  selective_task task;
  float *parts, *threads;
  int64_t blocks, thread_floats;
} selective_call;

static inline int64_t selective_blocks(const fm_selective_scan_shape *s) {
  return (s->channels + SELECTIVE_BLOCK - 1) / SELECTIVE_BLOCK;
}

/// Gives a task the parts of a thread's scratch and returns their floats; whole cache lines, and lanes for every path.
static int64_t selective_share(selective_task *t, const fm_selective_scan_shape *s, int backward, float *at) {
  int64_t block = SELECTIVE_BLOCK * s->states, rows = FM_SELECTIVE_CHUNK * s->states;
  int64_t padded = (s->states + 15) & ~(int64_t)15, run = FM_SELECTIVE_CHUNK * s->states * 16;
  struct { float **part; int64_t floats; } parts[] = {
      {&t->a, block}, {&t->state, block}, {&t->b_rows, rows}, {&t->c_rows, rows},
      {&t->dstate, block}, {&t->da, block}, {&t->db_rows, FM_SELECTIVE_CHUNK * padded}, {&t->dc_rows, FM_SELECTIVE_CHUNK * padded},
      {&t->run_states, run + s->states * 16}, {&t->run_decays, run}, {&t->run_outputs, FM_SELECTIVE_CHUNK * 16},
      {&t->db_parts, padded * 16}, {&t->dc_parts, padded * 16}};
  int64_t floats = 0;
  for (int i = 0; i < (backward ? 13 : 4); i++) {
    *parts[i].part = at ? at + floats : NULL;
    floats += parts[i].floats;
  }
  t->states_padded = padded;
  return floats;
}

int64_t fm_selective_scan_scratch(const fm_selective_scan_shape *s) {
  selective_task task;
  return selective_share(&task, s, 0, NULL) * fm_threads();
}
static int64_t selective_sums(const fm_selective_scan_shape *s) {
  return (s->batch * (s->states + 2) * s->channels + 15) & ~(int64_t)15;
}
static int64_t selective_parts(const fm_selective_scan_shape *s) {
  int64_t segment = s->length < SELECTIVE_SEGMENT ? s->length : SELECTIVE_SEGMENT;
  return (selective_blocks(s) * s->batch * segment * 2 * s->states + 15) & ~(int64_t)15;
}
int64_t fm_selective_scan_backward_scratch(const fm_selective_scan_shape *s) {
  selective_task task;
  return selective_sums(s) + selective_parts(s) + selective_share(&task, s, 1, NULL) * fm_threads();
}

/// The task of an index, in a thread's share of the scratch.
static selective_task selective_prepare(const selective_call *call, int64_t index, int backward) {
  selective_task t = call->task;
  int64_t left;
  t.b = index / call->blocks;
  t.first = index % call->blocks * SELECTIVE_BLOCK;
  left = t.shape->channels - t.first;
  t.channels = left < SELECTIVE_BLOCK ? left : SELECTIVE_BLOCK;
  selective_share(&t, t.shape, backward, call->threads + fm_thread_index() * call->thread_floats);
  return t;
}
static void selective_forward(void *context, int64_t index) {
  selective_task t = selective_prepare(context, index, 0);
  FM_CALL(selective_forward)(&t);
}
static int64_t selective_part_step(const selective_task *t) {
  return (t->segment_last - t->segment_first) * 2 * t->shape->states;
}
static void selective_backward(void *context, int64_t index) {
  const selective_call *call = context;
  selective_task t = selective_prepare(call, index, 1);
  t.parts = call->parts + index * selective_part_step(&t);
  FM_CALL(selective_backward)(&t);
}
static void selective_sum(void *context, int64_t index) {
  const selective_call *call = context;
  selective_task t = call->task;
  int64_t step = selective_part_step(&t), pieces = SELECTIVE_SEGMENT / FM_SELECTIVE_CHUNK;
  t.b = index / pieces;
  t.parts = call->parts + t.b * call->blocks * step;
  int64_t first = t.segment_first + index % pieces * FM_SELECTIVE_CHUNK, last = first + FM_SELECTIVE_CHUNK;
  if (last > t.segment_last) last = t.segment_last;
  FM_CALL(selective_sum_parts)(&t, call->blocks, step, first, last);
}

/// Waking the pool costs more than a few tens of thousands of operations.
static void selective_each(int64_t tasks, int64_t work, void (*body)(void *, int64_t), selective_call *call) {
  if (work < 16384)
    for (int64_t i = 0; i < tasks; i++) body(call, i);
  else
    fm_parallel_dynamic(tasks, body, call);
}

static void selective_copy_states(const fm_selective_scan_shape *s, const float *from, float *to) {
  size_t bytes = sizeof(float) * (size_t)(s->batch * s->states * s->channels);
  if (from) memcpy(to, from, bytes);
  else memset(to, 0, bytes);
}

void fm_selective_scan(const fm_selective_scan_shape *s, const float *initial_state, void *output, float *final_state,
                       float *chunk_states, float *scratch) {
  if (s->length <= 0) return selective_copy_states(s, initial_state, final_state);
  selective_call call = {.task = {.shape = s, .initial_state = initial_state, .output = output, .final_state = final_state,
                                  .chunk_states = chunk_states}, .threads = scratch, .blocks = selective_blocks(s)};
  call.thread_floats = selective_share(&call.task, s, 0, NULL);
  selective_each(s->batch * call.blocks, s->batch * s->length * s->channels * s->states, selective_forward, &call);
}

void fm_selective_scan_backward(const fm_selective_scan_shape *s, const float *chunk_states, const void *doutput,
                                const float *dfinal_state, const fm_selective_scan_gradients *gradients, float *scratch) {
  selective_copy_states(s, dfinal_state, gradients->dinitial_state);
  selective_call call = {.task = {.shape = s, .kept_states = chunk_states, .doutput = doutput, .gradients = gradients,
                                  .sums = scratch}, .parts = scratch + selective_sums(s), .blocks = selective_blocks(s)};
  call.threads = call.parts + selective_parts(s);
  call.thread_floats = selective_share(&call.task, s, 1, NULL);
  memset(call.task.sums, 0, sizeof(float) * (size_t)selective_sums(s));
  for (int64_t last = s->length; last > 0; last = call.task.segment_first) {
    call.task.segment_last = last;
    call.task.segment_first = (last - 1) / SELECTIVE_SEGMENT * SELECTIVE_SEGMENT;
    int64_t work = s->batch * (last - call.task.segment_first) * s->channels * s->states;
    selective_each(s->batch * call.blocks, work, selective_backward, &call);
    selective_each(s->batch * (SELECTIVE_SEGMENT / FM_SELECTIVE_CHUNK), work / 32, selective_sum, &call);
  }
  // Rows of the batch in order.
  float *sums[] = {gradients->da, gradients->dskip, gradients->dstep_bias};
  int64_t sizes[] = {s->states * s->channels, s->channels, s->channels}, at = 0;
  for (int i = 0; i < 3; at += sizes[i++])
    for (int64_t x = 0; x < sizes[i]; x++) {
      float sum = 0;
      for (int64_t b = 0; b < s->batch; b++) sum += call.task.sums[b * (s->states + 2) * s->channels + at + x];
      sums[i][x] = sum;
    }
}
#endif
