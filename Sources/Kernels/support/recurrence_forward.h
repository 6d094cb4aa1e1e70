// The forward of a recurrence: products with the packed recurrent matrix, a tile of rows and units at a time, then the cell.
// Included once per processor path.

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
