// The scan of diagonal-plus-low-rank state spaces: 16 channels as lanes, a token at a time through all modes, because the next
// token needs sigma of all of them. A mode's ten numbers lie together, and beside them its state.
//
// Backward: a chunk's states are computed again, then from its end, with h_t the gradient of sigma_t,
//   g_t = conj(a) g_{t+1} + conj(r) dy_t + conj(s) h_t,   h_{t-1} = -sum Re(conj(w) g_t),   du_t = sum Re(conj(b) g_t),
// and what the parameters get from all tokens of the chunk, mode by mode.
#include "fermata_low_rank_scan.h"
#include "support/modes_tile.h"

#ifdef FM_VARIANT

/// Copies (2, modes, channels) into slots `slot` and `slot` + 1 of every mode's `slots`, the imaginary plane times `sign`.
static void FM(low_rank_pack)(const modes_block *block, const float *from, int64_t slots, int64_t slot, float sign, float *to) {
  int64_t channels = block->shape->channels, modes = block->shape->modes;
  for (int64_t n = 0; n < block->modes; n++)
    for (int plane = 0; plane < 2; plane++)
      for (int64_t lane = 0; lane < MODES_CHANNELS; lane += FM_LANES) {
        vf v = FM(v_set)(0);
        if (from && n < modes && lane < block->count)
          v = FM(scan_read_n)(FM_F32, from, (plane * modes + n) * channels + block->first + lane, block->count - lane);
        FM(v_store)(to + (n * slots + slot + plane) * MODES_CHANNELS + lane, plane ? FM(v_set)(sign) * v : v);
      }
}
static void FM(low_rank_unpack)(const modes_block *block, const float *from, int64_t slots, int64_t slot, float sign, float *to) {
  int64_t channels = block->shape->channels, modes = block->shape->modes;
  for (int64_t n = 0; n < modes; n++)
    for (int plane = 0; plane < 2; plane++)
      for (int64_t lane = 0; lane < block->count; lane += FM_LANES) {
        vf v = FM(v_load)(from + (n * slots + slot + plane) * MODES_CHANNELS + lane);
        if (plane) v *= FM(v_set)(sign);
        FM(scan_write_n)(FM_F32, to, (plane * modes + n) * channels + block->first + lane, v, block->count - lane);
      }
}

/// sigma of a state: probe and readout have their imaginary planes negated, so that Re(s x) is a plain sum of products.
static void FM(low_rank_probe)(const modes_block *block, const float *system, const float *state, float *sigma) {
  for (int64_t lane = 0; lane < MODES_CHANNELS; lane += FM_LANES) {
    vf sum = FM(v_set)(0);
    for (int64_t n = 0; n < block->modes; n++)
      for (int plane = 0; plane < 2; plane++)
        sum = FM(v_fma)(FM(v_load)(system + (n * LOW_RANK_SLOTS + LOW_RANK_PROBE + plane) * MODES_CHANNELS + lane),
                        FM(v_load)(state + (2 * n + plane) * MODES_CHANNELS + lane), sum);
    FM(v_store)(sigma + lane, sum);
  }
}

/// One vector of channels through a run: from state `from` to `from` + step, or in place when step is 0. Adds to `output`
/// unless it is NULL. sigma holds what stands before the run and moves on `sigma_step` a token.
FM_INLINE void FM(low_rank_steps)(int64_t modes, int64_t rows, const float *system, const float *input, float *output,
                                  float *state, int64_t step, float *sigma, int64_t sigma_step) {
  for (int64_t t = 0; t < rows; t++, state += step, sigma += sigma_step) {
    vf u = FM(v_load)(input + t * MODES_CHANNELS), back = -FM(v_load)(sigma), zero = FM(v_set)(0);
    vf probe[4] = {zero, zero, zero, zero}, read[4] = {zero, zero, zero, zero};
    for (int64_t n = 0; n < modes; n += 2)
#pragma clang loop unroll(full)
      for (int k = 0; k < 2; k++) {
        const float *p = system + (n + k) * LOW_RANK_SLOTS * MODES_CHANNELS;
#define LOW_RANK_LOAD(slot) FM(v_load)(p + (slot) * MODES_CHANNELS)
        float *x = state + 2 * (n + k) * MODES_CHANNELS;
        vf xr = FM(v_load)(x), xi = FM(v_load)(x + MODES_CHANNELS);
        vf ar = LOW_RANK_LOAD(LOW_RANK_DECAY), ai = LOW_RANK_LOAD(LOW_RANK_DECAY + 1);
        vf r = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_INPUT), u, LOW_RANK_LOAD(LOW_RANK_CORRECTION) * back);
        vf i = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_INPUT + 1), u, LOW_RANK_LOAD(LOW_RANK_CORRECTION + 1) * back);
        r = FM(v_fma)(-ai, xi, FM(v_fma)(ar, xr, r));
        i = FM(v_fma)(ai, xr, FM(v_fma)(ar, xi, i));
        FM(v_store)(x + step, r);
        FM(v_store)(x + step + MODES_CHANNELS, i);
        probe[k] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_PROBE), r, probe[k]);
        probe[k + 2] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_PROBE + 1), i, probe[k + 2]);
        if (!output) continue;
        read[k] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_READOUT), r, read[k]);
        read[k + 2] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_READOUT + 1), i, read[k + 2]);
      }
    FM(v_store)(sigma + sigma_step, (probe[0] + probe[1]) + (probe[2] + probe[3]));
    if (!output) continue;
    float *y = output + t * MODES_CHANNELS;
    FM(v_store)(y, FM(v_load)(y) + ((read[0] + read[1]) + (read[2] + read[3])));
  }
}

/// g of every token of a run, last first, and the gradient of its inputs. carry holds conj(a) g of what follows, `h` its
/// gradient of sigma; both end as those of what comes before. `later` receives h_t of each token.
FM_INLINE void FM(low_rank_adjoint)(int64_t modes, int64_t rows, const float *system, const float *doutput, float *dinput,
                                    float *carry, float *h, float *g, float *later) {
  vf slope = FM(v_load)(h);
  for (int64_t t = rows - 1; t >= 0; t--) {
    vf d = FM(v_load)(doutput + t * MODES_CHANNELS), zero = FM(v_set)(0);
    vf du[4] = {zero, zero, zero, zero}, next[4] = {zero, zero, zero, zero};
    float *kept = g + t * 2 * modes * MODES_CHANNELS;
    FM(v_store)(later + t * MODES_CHANNELS, slope);
    for (int64_t n = 0; n < modes; n += 2)
#pragma clang loop unroll(full)
      for (int k = 0; k < 2; k++) {
        const float *p = system + (n + k) * LOW_RANK_SLOTS * MODES_CHANNELS;
        float *c = carry + 2 * (n + k) * MODES_CHANNELS, *to = kept + 2 * (n + k) * MODES_CHANNELS;
        vf r = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_READOUT), d, FM(v_load)(c));
        vf i = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_READOUT + 1), d, FM(v_load)(c + MODES_CHANNELS));
        r = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_PROBE), slope, r);
        i = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_PROBE + 1), slope, i);
        FM(v_store)(to, r);
        FM(v_store)(to + MODES_CHANNELS, i);
        du[k] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_INPUT), r, du[k]);
        du[k + 2] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_INPUT + 1), i, du[k + 2]);
        next[k] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_CORRECTION), r, next[k]);
        next[k + 2] = FM(v_fma)(LOW_RANK_LOAD(LOW_RANK_CORRECTION + 1), i, next[k + 2]);
        vf ar = LOW_RANK_LOAD(LOW_RANK_DECAY), ai = LOW_RANK_LOAD(LOW_RANK_DECAY + 1);
        FM(v_store)(c, FM(v_fma)(ai, i, ar * r));
        FM(v_store)(c + MODES_CHANNELS, FM(v_fma)(-ai, r, ar * i));
      }
    float *x = dinput + t * MODES_CHANNELS;
    FM(v_store)(x, FM(v_load)(x) + ((du[0] + du[1]) + (du[2] + du[3])));
    slope = -((next[0] + next[1]) + (next[2] + next[3]));
  }
  FM(v_store)(h, slope);
}

/// What one mode's parameters get from a run: states and g lie 2 `modes` planes a token apart.
FM_INLINE void FM(low_rank_parameters)(int64_t modes, int64_t rows, const float *states, const float *g, const float *sigma,
                                       const float *input, const float *doutput, const float *later, float *gradient) {
  const int64_t step = 2 * modes * MODES_CHANNELS;
  vf sum[LOW_RANK_SLOTS];
#pragma clang loop unroll(full)
  for (int i = 0; i < LOW_RANK_SLOTS; i++) sum[i] = FM(v_set)(0);
  vf xr = FM(v_load)(states), xi = FM(v_load)(states + MODES_CHANNELS);
  for (int64_t t = 0; t < rows; t++, g += step) {
    int64_t at = t * MODES_CHANNELS;
    states += step;
    vf gr = FM(v_load)(g), gi = FM(v_load)(g + MODES_CHANNELS), back = -FM(v_load)(sigma + at);
    vf u = FM(v_load)(input + at), d = FM(v_load)(doutput + at), h = FM(v_load)(later + at);
    sum[LOW_RANK_DECAY] = FM(v_fma)(gr, xr, FM(v_fma)(gi, xi, sum[LOW_RANK_DECAY]));
    sum[LOW_RANK_DECAY + 1] = FM(v_fma)(gi, xr, FM(v_fma)(-gr, xi, sum[LOW_RANK_DECAY + 1]));
    sum[LOW_RANK_CORRECTION] = FM(v_fma)(gr, back, sum[LOW_RANK_CORRECTION]);
    sum[LOW_RANK_CORRECTION + 1] = FM(v_fma)(gi, back, sum[LOW_RANK_CORRECTION + 1]);
    sum[LOW_RANK_INPUT] = FM(v_fma)(gr, u, sum[LOW_RANK_INPUT]);
    sum[LOW_RANK_INPUT + 1] = FM(v_fma)(gi, u, sum[LOW_RANK_INPUT + 1]);
    xr = FM(v_load)(states);
    xi = FM(v_load)(states + MODES_CHANNELS);
    sum[LOW_RANK_PROBE] = FM(v_fma)(h, xr, sum[LOW_RANK_PROBE]);
    sum[LOW_RANK_PROBE + 1] = FM(v_fma)(h, xi, sum[LOW_RANK_PROBE + 1]);
    sum[LOW_RANK_READOUT] = FM(v_fma)(d, xr, sum[LOW_RANK_READOUT]);
    sum[LOW_RANK_READOUT + 1] = FM(v_fma)(d, xi, sum[LOW_RANK_READOUT + 1]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < LOW_RANK_SLOTS; i++) {
    float *to = gradient + i * MODES_CHANNELS;
    FM(v_store)(to, FM(v_load)(to) + sum[i]);
  }
}

static void FM(low_rank_pack_system)(const modes_block *block, const fm_low_rank_system *s, float *to) {
  FM(low_rank_pack)(block, s->decay, LOW_RANK_SLOTS, LOW_RANK_DECAY, 1, to);
  FM(low_rank_pack)(block, s->correction, LOW_RANK_SLOTS, LOW_RANK_CORRECTION, 1, to);
  FM(low_rank_pack)(block, s->input, LOW_RANK_SLOTS, LOW_RANK_INPUT, 1, to);
  FM(low_rank_pack)(block, s->probe, LOW_RANK_SLOTS, LOW_RANK_PROBE, -1, to);
  FM(low_rank_pack)(block, s->readout, LOW_RANK_SLOTS, LOW_RANK_READOUT, -1, to);
}
static void FM(low_rank_unpack_system)(const modes_block *block, const float *from, const fm_low_rank_system *s) {
  int64_t all = block->b * modes_all(block->shape);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_DECAY, 1, s->decay + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_CORRECTION, 1, s->correction + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_INPUT, 1, s->input + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_PROBE, -1, s->probe + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_READOUT, -1, s->readout + all);
}

static void FM(low_rank_forward)(const void *arrays, const modes_block *block, float *scratch) {
  const low_rank_arrays *a = arrays;
  const fm_diagonal_scan_shape *s = block->shape;
  int64_t size = block->modes * MODES_CHANNELS;
  float *system = scratch, *state = system + LOW_RANK_SLOTS * size, *skip = state + 2 * size, *sigma = skip + MODES_CHANNELS;
  float *input = sigma + MODES_CHANNELS, *output = input + MODES_TILE;
  FM(low_rank_pack_system)(block, a->system, system);
  FM(low_rank_pack)(block, modes_of(block, a->initial_state), 2, 0, 1, state);
  FM(low_rank_probe)(block, system, state, sigma);
  modes_load_vector(block, a->system->skip, skip);
  for (int64_t start = 0; start < s->length; start += FM_DIAGONAL_CHUNK) {
    modes_run runs[FM_DIAGONAL_CHUNK];
    int64_t rows = modes_chunk_rows(s, start), count = modes_runs(block, start, rows, runs);
    if (a->chunk_states) FM(low_rank_unpack)(block, state, 2, 0, 1, a->chunk_states + modes_chunk_at(block, start));
    FM(modes_load_positions)(block, a->input, s->input_stride, start, rows, FM_DIAGONAL_CHUNK, input);
    FM(modes_skip)(rows, skip, input, output);
    for (int64_t r = 0; r < count; r++) {
      int64_t at = runs[r].start * MODES_CHANNELS;
      if (runs[r].reset) memset(state, 0, sizeof(float) * (size_t)(2 * size)), memset(sigma, 0, sizeof(float) * MODES_CHANNELS);
      if (!runs[r].valid) { memset(output + at, 0, sizeof(float) * (size_t)(runs[r].rows * MODES_CHANNELS)); continue; }
      for (int64_t lane = 0; lane < block->count; lane += FM_LANES)
        FM(low_rank_steps)(block->modes, runs[r].rows, system + lane, input + at + lane, output + at + lane, state + lane, 0,
                           sigma + lane, 0);
    }
    FM(modes_store_positions)(block, a->output, start, rows, output);
  }
  FM(low_rank_unpack)(block, state, 2, 0, 1, a->final_state + block->b * modes_all(s));
}

/// States and sigmas of a chunk again, run after run. A run of n positions keeps n + 1 of each.
static void FM(low_rank_recompute)(const modes_block *block, const modes_run *runs, int64_t count, const low_rank_work *w) {
  int64_t step = 2 * block->modes * MODES_CHANNELS, slot = 0;
  float *last = w->states, *sigma = w->sigma;
  FM(low_rank_probe)(block, w->system, last, sigma);
  for (int64_t r = 0; r < count; r++) {
    if (!runs[r].valid && !runs[r].reset) continue;
    float *first = w->states + slot * step, *first_sigma = w->sigma + slot * MODES_CHANNELS;
    if (runs[r].reset) {
      memset(first, 0, sizeof(float) * (size_t)step);
      memset(first_sigma, 0, sizeof(float) * MODES_CHANNELS);
    } else if (first != last) {
      memcpy(first, last, sizeof(float) * (size_t)step);
      memcpy(first_sigma, sigma, sizeof(float) * MODES_CHANNELS);
    }
    last = first, sigma = first_sigma;
    if (!runs[r].valid) continue;
    for (int64_t lane = 0; lane < block->count; lane += FM_LANES)
      FM(low_rank_steps)(block->modes, runs[r].rows, w->system + lane, w->input + runs[r].start * MODES_CHANNELS + lane, NULL,
                         first + lane, step, first_sigma + lane, MODES_CHANNELS);
    last = first + runs[r].rows * step, sigma = first_sigma + runs[r].rows * MODES_CHANNELS;
    slot += runs[r].rows + 1;
  }
}

/// One run backwards: g, then what the parameters get.
static void FM(low_rank_run_adjoint)(const modes_block *block, const modes_run *run, int64_t slot, const low_rank_work *w) {
  int64_t step = 2 * block->modes * MODES_CHANNELS, at = run->start * MODES_CHANNELS;
  const float *states = w->states + slot * step, *sigma = w->sigma + slot * MODES_CHANNELS;
  FM(modes_skip)(run->rows, w->skip, w->doutput + at, w->dinput + at);
  FM(modes_add_products)(run->rows, w->input + at, w->doutput + at, w->dskip);
  for (int64_t lane = 0; lane < block->count; lane += FM_LANES) {
    FM(low_rank_adjoint)(block->modes, run->rows, w->system + lane, w->doutput + at + lane, w->dinput + at + lane,
                         w->carry + lane, w->h + lane, w->g + lane, w->later + lane);
    for (int64_t n = 0; n < block->modes; n++) {
      int64_t mode = 2 * n * MODES_CHANNELS + lane;
      FM(low_rank_parameters)(block->modes, run->rows, states + mode, w->g + mode, sigma + lane, w->input + at + lane,
                              w->doutput + at + lane, w->later + lane,
                              w->gradient + n * LOW_RANK_SLOTS * MODES_CHANNELS + lane);
    }
  }
}

/// The piece's first state gives sigma before the first token: its gradient h reaches the state and the probe.
static void FM(low_rank_finish)(const modes_block *block, const float *initial, const low_rank_work *w) {
  FM(low_rank_pack)(block, initial, 2, 0, 1, w->states);
  for (int64_t n = 0; n < block->modes; n++)
    for (int plane = 0; plane < 2; plane++)
      for (int64_t lane = 0; lane < MODES_CHANNELS; lane += FM_LANES) {
        int64_t probe = (n * LOW_RANK_SLOTS + LOW_RANK_PROBE + plane) * MODES_CHANNELS + lane;
        int64_t at = (2 * n + plane) * MODES_CHANNELS + lane;
        vf h = FM(v_load)(w->h + lane);
        FM(v_store)(w->gradient + probe, FM(v_fma)(h, FM(v_load)(w->states + at), FM(v_load)(w->gradient + probe)));
        FM(v_store)(w->carry + at, FM(v_fma)(h, FM(v_load)(w->system + probe), FM(v_load)(w->carry + at)));
      }
}

static void FM(low_rank_backward)(const void *arrays, const modes_block *block, float *scratch) {
  const low_rank_arrays *a = arrays;
  const fm_diagonal_scan_shape *s = block->shape;
  int64_t size = block->modes * MODES_CHANNELS, dense[2] = {s->length * s->channels, s->channels};
  low_rank_work w;
  w.system = scratch, w.gradient = w.system + LOW_RANK_SLOTS * size, w.carry = w.gradient + LOW_RANK_SLOTS * size;
  w.states = w.carry + 2 * size, w.g = w.states + 2 * (2 * FM_DIAGONAL_CHUNK) * size, w.sigma = w.g + 2 * FM_DIAGONAL_CHUNK * size;
  w.later = w.sigma + 2 * MODES_TILE, w.input = w.later + MODES_TILE, w.doutput = w.input + MODES_TILE;
  w.dinput = w.doutput + MODES_TILE, w.skip = w.dinput + MODES_TILE, w.dskip = w.skip + MODES_CHANNELS, w.h = w.dskip + MODES_CHANNELS;
  FM(low_rank_pack_system)(block, a->system, w.system);
  FM(low_rank_pack)(block, modes_of(block, a->dfinal_state), 2, 0, 1, w.carry);
  modes_load_vector(block, a->system->skip, w.skip);
  memset(w.gradient, 0, sizeof(float) * (size_t)(LOW_RANK_SLOTS * size));
  memset(w.dskip, 0, sizeof(float) * 2 * MODES_CHANNELS);
  for (int64_t start = (modes_chunks(s) - 1) * FM_DIAGONAL_CHUNK; start >= 0; start -= FM_DIAGONAL_CHUNK) {
    modes_run runs[FM_DIAGONAL_CHUNK];
    int64_t rows = modes_chunk_rows(s, start), count = modes_runs(block, start, rows, runs), slot = 0;
    FM(low_rank_pack)(block, a->kept_states + modes_chunk_at(block, start), 2, 0, 1, w.states);
    FM(modes_load_positions)(block, a->input, s->input_stride, start, rows, -FM_DIAGONAL_CHUNK, w.input);
    FM(modes_load_positions)(block, a->doutput, dense, start, rows, -FM_DIAGONAL_CHUNK, w.doutput);
    FM(low_rank_recompute)(block, runs, count, &w);
    for (int64_t r = 0; r < count; r++) slot += runs[r].valid ? runs[r].rows + 1 : 0;
    for (int64_t r = count - 1; r >= 0; r--) {
      if (runs[r].valid) FM(low_rank_run_adjoint)(block, &runs[r], slot -= runs[r].rows + 1, &w);
      else memset(w.dinput + runs[r].start * MODES_CHANNELS, 0, sizeof(float) * (size_t)(runs[r].rows * MODES_CHANNELS));
      if (!runs[r].reset) continue;
      memset(w.carry, 0, sizeof(float) * (size_t)(2 * size));
      memset(w.h, 0, sizeof(float) * MODES_CHANNELS);
    }
    FM(modes_store_positions)(block, a->dinput, start, rows, w.dinput);
  }
  if (s->length > 0) FM(low_rank_finish)(block, a->kept_states + modes_chunk_at(block, 0), &w);
  FM(low_rank_unpack_system)(block, w.gradient, a->gradient);
  memcpy(a->gradient->skip + block->b * s->channels + block->first, w.dskip, sizeof(float) * (size_t)block->count);
  if (a->dinitial_state) FM(low_rank_unpack)(block, w.carry, 2, 0, 1, a->dinitial_state + block->b * modes_all(s));
}
#undef LOW_RANK_LOAD

#else

/// A mode's numbers, real and imaginary each.
enum {
  LOW_RANK_DECAY = 0, LOW_RANK_CORRECTION = 2, LOW_RANK_INPUT = 4, LOW_RANK_PROBE = 6, LOW_RANK_READOUT = 8, LOW_RANK_SLOTS = 10,
};

typedef struct {
  const fm_low_rank_system *system, *gradient;
  const void *input, *doutput;
  const float *initial_state, *kept_states, *dfinal_state;
  void *output, *dinput;
  float *final_state, *chunk_states, *dinitial_state;
} low_rank_arrays;

/// What the backward of a block works on.
typedef struct {
  float *system, *gradient, *carry, *states, *g, *sigma, *later, *input, *doutput, *dinput, *skip, *dskip, *h;
} low_rank_work;

#define FM_FILE "../low_rank_scan.c"
#include "support/each_variant.h"

int fm_low_rank_scan(const fm_diagonal_scan_shape *shape, const fm_low_rank_system *system, const void *input,
                     const float *initial_state, void *output, float *final_state, float *chunk_states) {
  low_rank_arrays arrays = {.system = system, .input = input, .initial_state = initial_state, .output = output,
                            .final_state = final_state, .chunk_states = chunk_states};
  return modes_start(shape, &arrays, FM_CALL(low_rank_forward), LOW_RANK_SLOTS + 2, 2 * MODES_TILE + 2 * MODES_CHANNELS);
}

int fm_low_rank_scan_backward(const fm_diagonal_scan_shape *shape, const fm_low_rank_system *system, const void *input,
                              const float *chunk_states, const void *doutput, const float *dfinal_state, void *dinput,
                              const fm_low_rank_system *gradient, float *dinitial_state) {
  low_rank_arrays arrays = {.system = system, .gradient = gradient, .input = input, .doutput = doutput,
                            .kept_states = chunk_states, .dfinal_state = dfinal_state, .dinput = dinput,
                            .dinitial_state = dinitial_state};
  int64_t planes = 2 * LOW_RANK_SLOTS + 2 + 6 * FM_DIAGONAL_CHUNK;
  return modes_start(shape, &arrays, FM_CALL(low_rank_backward), planes, 6 * MODES_TILE + 3 * MODES_CHANNELS);
}
#endif
