// The forward of a diagonal-plus-low-rank scan for one block of channels. Included once per processor path.

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

/// A slot of the mode at p.
#define LOW_RANK_LOAD(slot) FM(v_load)(p + (slot) * MODES_CHANNELS)

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

static void FM(low_rank_pack_system)(const modes_block *block, const fm_low_rank_system *s, float *to) {
  FM(low_rank_pack)(block, s->decay, LOW_RANK_SLOTS, LOW_RANK_DECAY, 1, to);
  FM(low_rank_pack)(block, s->correction, LOW_RANK_SLOTS, LOW_RANK_CORRECTION, 1, to);
  FM(low_rank_pack)(block, s->input, LOW_RANK_SLOTS, LOW_RANK_INPUT, 1, to);
  FM(low_rank_pack)(block, s->probe, LOW_RANK_SLOTS, LOW_RANK_PROBE, -1, to);
  FM(low_rank_pack)(block, s->readout, LOW_RANK_SLOTS, LOW_RANK_READOUT, -1, to);
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
