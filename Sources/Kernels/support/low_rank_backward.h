// The backward of a diagonal-plus-low-rank scan for one block of channels. Included once per processor path.

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

static void FM(low_rank_unpack_system)(const modes_block *block, const float *from, const fm_low_rank_system *s) {
  int64_t all = block->b * modes_all(block->shape);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_DECAY, 1, s->decay + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_CORRECTION, 1, s->correction + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_INPUT, 1, s->input + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_PROBE, -1, s->probe + all);
  FM(low_rank_unpack)(block, from, LOW_RANK_SLOTS, LOW_RANK_READOUT, -1, s->readout + all);
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
