// The backward of a recurrence, last step first. Included once per processor path.

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
