// The scan of diagonal state spaces, 16 channels and 64 positions at a time.
//
// Lanes are channels, so that nothing is summed across lanes; a few modes go through a run of positions together, because one
// recurrence alone would wait for its own products. A run is a stretch of valid positions without a reset inside.
//
// Backward: a chunk's states are computed again from the state before it, then the adjoint runs from its end,
//   g_t = conj(a) g_{t+1} + conj(r) dy_t,  du_t = Re g_t,  da = sum_t g_t conj(x_{t-1}),  dr = sum_t dy_t conj(x_t),
// in real numbers, plane by plane.
#include "fermata_diagonal_scan.h"
#include "support/modes_tile.h"

#ifdef FM_VARIANT

/// Takes `group` modes of a vector of channels through a run. `kept`, when not NULL, receives the states before the run and
/// after each position; else outputs are written, or with one plane added to.
FM_INLINE void FM(diagonal_steps)(const int planes, const int group, int64_t rows, const diagonal_modes *m, const float *input,
                                  float *output, float *kept) {
  vf ar[4], ai[4], rr[4], ri[4], xr[4], xi[4];
#pragma clang loop unroll(full)
  for (int k = 0; k < group; k++) {
    int64_t at = k * MODES_CHANNELS;
    ar[k] = FM(v_load)(m->decay + at);
    ai[k] = FM(v_load)(m->decay + m->pitch + at);
    rr[k] = FM(v_load)(m->readout + at);
    ri[k] = -FM(v_load)(m->readout + m->pitch + at);
    xr[k] = FM(v_load)(m->state + at);
    xi[k] = FM(v_load)(m->state + m->pitch + at);
    if (kept) {
      FM(v_store)(kept + 2 * at, xr[k]);
      FM(v_store)(kept + 2 * at + MODES_CHANNELS, xi[k]);
    }
  }
  for (int64_t t = 0; t < rows; t++, input += MODES_CHANNELS, output += MODES_CHANNELS) {
    vf ur = FM(v_load)(input), ui = FM(v_set)(0), sum = ui;
    if (planes == 2) ui = FM(v_load)(input + MODES_TILE);
    else if (!kept) sum = FM(v_load)(output);
    if (kept) kept += 2 * group * MODES_CHANNELS;
#pragma clang loop unroll(full)
    for (int k = 0; k < group; k++) {
      vf real = FM(v_fma)(-ai[k], xi[k], FM(v_fma)(ar[k], xr[k], ur));
      xi[k] = FM(v_fma)(ai[k], xr[k], planes == 2 ? FM(v_fma)(ar[k], xi[k], ui) : ar[k] * xi[k]);
      xr[k] = real;
      if (kept) {
        FM(v_store)(kept + 2 * k * MODES_CHANNELS, xr[k]);
        FM(v_store)(kept + (2 * k + 1) * MODES_CHANNELS, xi[k]);
      } else if (planes == 1) {
        sum = FM(v_fma)(ri[k], xi[k], FM(v_fma)(rr[k], xr[k], sum));
      }
    }
    if (kept) continue;
    FM(v_store)(output, planes == 2 ? xr[0] : sum);
    if (planes == 2) FM(v_store)(output + MODES_TILE, xi[0]);
  }
#pragma clang loop unroll(full)
  for (int k = 0; k < group; k++) {
    FM(v_store)(m->state + k * MODES_CHANNELS, xr[k]);
    FM(v_store)(m->state + m->pitch + k * MODES_CHANNELS, xi[k]);
  }
}

/// The adjoint of `group` modes through a run, last position first. `state` holds g of what follows, then of what comes before.
FM_INLINE void FM(diagonal_adjoint)(const int planes, const int group, int64_t rows, const diagonal_modes *m, const float *kept,
                                    const float *doutput, float *dinput, float *ddecay, float *dreadout) {
  vf ar[2], ai[2], rr[2], ri[2], gr[2], gi[2], nr[2], ni[2], dar[2], dai[2], drr[2], dri[2];
  const int64_t step = 2 * group * MODES_CHANNELS;
  kept += rows * step;
#pragma clang loop unroll(full)
  for (int k = 0; k < group; k++) {
    int64_t at = k * MODES_CHANNELS;
    ar[k] = FM(v_load)(m->decay + at);
    ai[k] = FM(v_load)(m->decay + m->pitch + at);
    rr[k] = FM(v_load)(m->readout + at);
    ri[k] = -FM(v_load)(m->readout + m->pitch + at);
    gr[k] = FM(v_load)(m->state + at);
    gi[k] = FM(v_load)(m->state + m->pitch + at);
    nr[k] = FM(v_load)(kept + 2 * at);
    ni[k] = FM(v_load)(kept + 2 * at + MODES_CHANNELS);
    dar[k] = dai[k] = drr[k] = dri[k] = FM(v_set)(0);
  }
  for (int64_t t = rows - 1; t >= 0; t--) {
    vf dr = FM(v_load)(doutput + t * MODES_CHANNELS), di = dr, sum = dr;
    if (planes == 2) di = FM(v_load)(doutput + MODES_TILE + t * MODES_CHANNELS);
    else sum = FM(v_load)(dinput + t * MODES_CHANNELS);
    kept -= step;
#pragma clang loop unroll(full)
    for (int k = 0; k < group; k++) {
      if (planes == 2) {
        gr[k] += dr;
        gi[k] += di;
      } else {
        gr[k] = FM(v_fma)(rr[k], dr, gr[k]);
        gi[k] = FM(v_fma)(ri[k], dr, gi[k]);
        drr[k] = FM(v_fma)(dr, nr[k], drr[k]);
        dri[k] = FM(v_fma)(dr, ni[k], dri[k]);
        sum += gr[k];
      }
      nr[k] = FM(v_load)(kept + 2 * k * MODES_CHANNELS);
      ni[k] = FM(v_load)(kept + (2 * k + 1) * MODES_CHANNELS);
      dar[k] = FM(v_fma)(gr[k], nr[k], FM(v_fma)(gi[k], ni[k], dar[k]));
      dai[k] = FM(v_fma)(gi[k], nr[k], FM(v_fma)(-gr[k], ni[k], dai[k]));
      if (planes == 2) {
        FM(v_store)(dinput + t * MODES_CHANNELS, gr[k]);
        FM(v_store)(dinput + MODES_TILE + t * MODES_CHANNELS, gi[k]);
      }
      vf real = FM(v_fma)(ai[k], gi[k], ar[k] * gr[k]);
      gi[k] = FM(v_fma)(-ai[k], gr[k], ar[k] * gi[k]);
      gr[k] = real;
    }
    if (planes == 1) FM(v_store)(dinput + t * MODES_CHANNELS, sum);
  }
#pragma clang loop unroll(full)
  for (int k = 0; k < group; k++) {
    int64_t at = k * MODES_CHANNELS, imaginary = m->pitch + at;
    FM(v_store)(m->state + at, gr[k]);
    FM(v_store)(m->state + imaginary, gi[k]);
    FM(v_store)(ddecay + at, FM(v_load)(ddecay + at) + dar[k]);
    FM(v_store)(ddecay + imaginary, FM(v_load)(ddecay + imaginary) + dai[k]);
    FM(v_store)(dreadout + at, FM(v_load)(dreadout + at) + drr[k]);
    FM(v_store)(dreadout + imaginary, FM(v_load)(dreadout + imaginary) - dri[k]);
  }
}

/// The modes from `mode` on, lanes from `lane` on.
FM_INLINE diagonal_modes FM(diagonal_view)(const modes_block *block, const float *decay, const float *readout, float *state,
                                           int64_t mode, int64_t lane) {
  int64_t at = mode * MODES_CHANNELS + lane;
  return (diagonal_modes){decay + at, readout + at, state + at, block->pitch};
}

FM_INLINE void FM(diagonal_forward_block)(const int planes, const int group, const diagonal_arrays *a, const modes_block *block,
                                          float *scratch) {
  const fm_diagonal_scan_shape *s = block->shape;
  // With two planes the outputs are the modes themselves, and padded ones must not write over them.
  int64_t modes = planes == 2 ? 1 : block->modes;
  float *decay = scratch, *readout = decay + 2 * block->pitch, *state = readout + 2 * block->pitch;
  float *skip = state + 2 * block->pitch, *input = skip + MODES_CHANNELS, *output = input + planes * MODES_TILE;
  FM(modes_load)(block, a->decay, decay);
  FM(modes_load)(block, a->readout, readout);
  FM(modes_load)(block, modes_of(block, a->initial_state), state);
  if (planes == 1) modes_load_vector(block, a->skip, skip);
  for (int64_t start = 0; start < s->length; start += FM_DIAGONAL_CHUNK) {
    modes_run runs[FM_DIAGONAL_CHUNK];
    int64_t rows = modes_chunk_rows(s, start), count = modes_runs(block, start, rows, runs);
    if (a->chunk_states) FM(modes_store)(block, state, a->chunk_states + modes_chunk_at(block, start));
    FM(modes_load_positions)(block, a->input, s->input_stride, start, rows, FM_DIAGONAL_CHUNK, input);
    if (planes == 1) FM(modes_skip)(rows, skip, input, output);
    for (int64_t r = 0; r < count; r++) {
      int64_t at = runs[r].start * MODES_CHANNELS;
      if (runs[r].reset) modes_reset(block, 0, block->modes, state);
      if (!runs[r].valid) {
        for (int plane = 0; plane < planes; plane++)
          memset(output + plane * MODES_TILE + at, 0, sizeof(float) * (size_t)(runs[r].rows * MODES_CHANNELS));
        continue;
      }
      for (int64_t lane = 0; lane < block->count; lane += FM_LANES)
        for (int64_t mode = 0; mode < modes; mode += group) {
          diagonal_modes m = FM(diagonal_view)(block, decay, readout, state, mode, lane);
          FM(diagonal_steps)(planes, group, runs[r].rows, &m, input + at + lane, output + at + lane, NULL);
        }
    }
    FM(modes_store_positions)(block, a->output, start, rows, output);
  }
  FM(modes_store)(block, state, a->final_state + block->b * modes_all(s));
}

/// A group of modes back through a chunk: its states again, run by run, then the adjoint. A run of n positions keeps n + 1 states.
FM_INLINE void FM(diagonal_chunk_adjoint)(const int planes, const int group, const modes_block *block, const modes_run *runs,
                                          int64_t count, int64_t mode, const diagonal_backward_work *w) {
  const int64_t step = 2 * group * MODES_CHANNELS;
  int64_t slot = 0;
  for (int64_t r = 0; r < count; r++) {
    if (runs[r].reset) modes_reset(block, mode, group, w->state);
    if (!runs[r].valid) continue;
    for (int64_t lane = 0; lane < block->count; lane += FM_LANES) {
      diagonal_modes m = FM(diagonal_view)(block, w->decay, w->readout, w->state, mode, lane);
      FM(diagonal_steps)(planes, group, runs[r].rows, &m, w->input + runs[r].start * MODES_CHANNELS + lane, w->dinput,
                         w->kept + slot * step + lane);
    }
    slot += runs[r].rows + 1;
  }
  for (int64_t r = count - 1; r >= 0; r--) {
    if (runs[r].valid) {
      slot -= runs[r].rows + 1;
      for (int64_t lane = 0; lane < block->count; lane += FM_LANES) {
        int64_t at = runs[r].start * MODES_CHANNELS + lane, offset = mode * MODES_CHANNELS + lane;
        diagonal_modes m = FM(diagonal_view)(block, w->decay, w->readout, w->carry, mode, lane);
        FM(diagonal_adjoint)(planes, group, runs[r].rows, &m, w->kept + slot * step + lane, w->doutput + at, w->dinput + at,
                             w->ddecay + offset, w->dreadout + offset);
      }
    }
    if (runs[r].reset) modes_reset(block, mode, group, w->carry);
  }
}

/// dinput = skip dy and the gradient of skip; where positions are padding, dy and dinput become zero.
FM_INLINE void FM(diagonal_begin_gradients)(const int planes, const modes_run *runs, int64_t count,
                                            const diagonal_backward_work *w) {
  for (int64_t r = 0; r < count; r++) {
    int64_t at = runs[r].start * MODES_CHANNELS;
    size_t bytes = sizeof(float) * (size_t)(runs[r].rows * MODES_CHANNELS);
    if (!runs[r].valid) {
      for (int plane = 0; plane < planes; plane++) {
        memset(w->doutput + plane * MODES_TILE + at, 0, bytes);
        memset(w->dinput + plane * MODES_TILE + at, 0, bytes);
      }
    } else if (planes == 1) {
      FM(modes_skip)(runs[r].rows, w->skip, w->doutput + at, w->dinput + at);
      FM(modes_add_products)(runs[r].rows, w->input + at, w->doutput + at, w->dskip);
    }
  }
}

FM_INLINE void FM(diagonal_backward_block)(const int planes, const int group, const diagonal_arrays *a, const modes_block *block,
                                           float *scratch) {
  const fm_diagonal_scan_shape *s = block->shape;
  int64_t modes = 2 * block->pitch, row = planes * s->channels, dense[2] = {s->length * row, row};
  diagonal_backward_work w;
  w.decay = scratch, w.readout = w.decay + modes, w.state = w.readout + modes, w.carry = w.state + modes;
  w.ddecay = w.carry + modes, w.dreadout = w.ddecay + modes, w.skip = w.dreadout + modes, w.dskip = w.skip + MODES_CHANNELS;
  w.input = w.dskip + MODES_CHANNELS, w.doutput = w.input + planes * MODES_TILE;
  w.dinput = w.doutput + planes * MODES_TILE, w.kept = w.dinput + planes * MODES_TILE;
  FM(modes_load)(block, a->decay, w.decay);
  FM(modes_load)(block, a->readout, w.readout);
  FM(modes_load)(block, modes_of(block, a->dfinal_state), w.carry);
  memset(w.ddecay, 0, sizeof(float) * (size_t)(2 * modes));
  memset(w.dskip, 0, sizeof(float) * MODES_CHANNELS);
  if (planes == 1) modes_load_vector(block, a->skip, w.skip);
  for (int64_t start = (modes_chunks(s) - 1) * FM_DIAGONAL_CHUNK; start >= 0; start -= FM_DIAGONAL_CHUNK) {
    modes_run runs[FM_DIAGONAL_CHUNK];
    int64_t rows = modes_chunk_rows(s, start), count = modes_runs(block, start, rows, runs);
    FM(modes_load)(block, a->kept_states + modes_chunk_at(block, start), w.state);
    FM(modes_load_positions)(block, a->input, s->input_stride, start, rows, -FM_DIAGONAL_CHUNK, w.input);
    FM(modes_load_positions)(block, a->doutput, dense, start, rows, -FM_DIAGONAL_CHUNK, w.doutput);
    FM(diagonal_begin_gradients)(planes, runs, count, &w);
    for (int64_t mode = 0; mode < (planes == 2 ? 1 : block->modes); mode += group)
      FM(diagonal_chunk_adjoint)(planes, group, block, runs, count, mode, &w);
    FM(modes_store_positions)(block, a->dinput, start, rows, w.dinput);
  }
  int64_t all = block->b * modes_all(s);
  FM(modes_store)(block, w.ddecay, a->ddecay + all);
  if (a->dinitial_state) FM(modes_store)(block, w.carry, a->dinitial_state + all);
  if (planes == 2) return;
  FM(modes_store)(block, w.dreadout, a->dreadout + all);
  memcpy(a->dskip + block->b * s->channels + block->first, w.dskip, sizeof(float) * (size_t)block->count);
}

static void FM(diagonal_forward)(const void *arrays, const modes_block *block, float *scratch) {
  if (block->shape->planes == 2) FM(diagonal_forward_block)(2, 1, arrays, block, scratch);
  else FM(diagonal_forward_block)(1, 4, arrays, block, scratch);
}
static void FM(diagonal_backward)(const void *arrays, const modes_block *block, float *scratch) {
  if (block->shape->planes == 2) FM(diagonal_backward_block)(2, 1, arrays, block, scratch);
  else FM(diagonal_backward_block)(1, 2, arrays, block, scratch);
}

#else

typedef struct {
  const void *input, *doutput;
  const float *decay, *readout, *skip, *initial_state, *kept_states, *dfinal_state;
  void *output, *dinput;
  float *final_state, *chunk_states, *ddecay, *dreadout, *dskip, *dinitial_state;
} diagonal_arrays;

/// Modes of one vector of channels; planes lie `pitch` apart, modes MODES_CHANNELS.
typedef struct {
  const float *decay, *readout;
  float *state;
  int64_t pitch;
} diagonal_modes;

/// What the backward of a block works on.
typedef struct {
  float *decay, *readout, *state, *carry, *ddecay, *dreadout, *skip, *dskip, *input, *doutput, *dinput, *kept;
} diagonal_backward_work;

#define FM_FILE "../diagonal_scan.c"
#include "support/each_variant.h"

int fm_diagonal_scan(const fm_diagonal_scan_shape *shape, const void *input, const float *decay, const float *readout,
                     const float *skip, const float *initial_state, void *output, float *final_state,
                     float *chunk_states) {
  diagonal_arrays arrays = {.input = input, .decay = decay, .readout = readout, .skip = skip, .initial_state = initial_state,
                            .output = output, .final_state = final_state, .chunk_states = chunk_states};
  return modes_start(shape, &arrays, FM_CALL(diagonal_forward), 6, 2 * shape->planes * MODES_TILE + MODES_CHANNELS);
}

int fm_diagonal_scan_backward(const fm_diagonal_scan_shape *shape, const void *input, const float *decay,
                              const float *readout, const float *skip, const float *chunk_states, const void *doutput,
                              const float *dfinal_state, void *dinput, float *ddecay, float *dreadout, float *dskip,
                              float *dinitial_state) {
  diagonal_arrays arrays = {.input = input, .decay = decay, .readout = readout, .skip = skip, .kept_states = chunk_states,
                            .doutput = doutput, .dfinal_state = dfinal_state, .dinput = dinput, .ddecay = ddecay,
                            .dreadout = dreadout, .dskip = dskip, .dinitial_state = dinitial_state};
  // A chunk's positions keep up to twice as many states of two modes, each in two planes.
  int64_t tiles = 3 * shape->planes + 8;
  return modes_start(shape, &arrays, FM_CALL(diagonal_backward), 12, tiles * MODES_TILE + 2 * MODES_CHANNELS);
}
#endif
