// What a chunk needs in forward and backward. Included once per processor path, after support/attention_pack.h.
//
// With P_i the decay from the chunk's start through position i, R_j the decay after j to its end, T the decay over it, L_ij
// that after j through i, and u_j = w_j v_j:
//
//   o_i = scale (P_i q_i S + sum_{j <= i} L_ij <q_i, k_j> u_j)
//   S  <- T S + sum_j k_j^T R_j u_j
//
// P, R and T are exponentials of summed logs, L running products of e^g: no exponent of a positive number is taken, and
// g = -infinity is a plain zero, which is also what a document's first token has.

/// e^g of each position, P, R and T. Positions beyond the piece neither decay nor add.
typedef struct { float decay[CHUNK], from_start[CHUNK], to_end[CHUNK], total, weight[CHUNK]; } FM(chunk_decays);

static void FM(chunk_load_decays)(const chunk_task *t, int64_t start, int64_t rows, int64_t head, FM(chunk_decays) *d) {
  const fm_gated_scan_shape *s = t->shape;
  const float *gate = t->in.gate + t->b * s->gate_stride[0] + start * s->gate_stride[1] + head * s->gate_stride[2];
  const uint8_t *resets = s->resets ? s->resets + t->b * s->length + start : NULL;
  float sum = 0;
  for (int64_t i = 0; i < CHUNK; i++) {
    d->decay[i] = i >= rows ? 0 : resets && resets[i] ? -INFINITY : gate[i * s->gate_stride[1]];
    d->from_start[i] = sum += d->decay[i];
  }
  d->total = sum;
  sum = 0;
  for (int64_t i = CHUNK - 1; i >= 0; i--) {
    d->to_end[i] = sum;
    sum += d->decay[i];
  }
  for (int64_t i = 0; i < CHUNK; i += FM_LANES) {
    FM(v_store)(d->decay + i, FM(v_exp)(FM(v_load)(d->decay + i)));
    FM(v_store)(d->from_start + i, FM(v_exp)(FM(v_load)(d->from_start + i)));
    FM(v_store)(d->to_end + i, FM(v_exp)(FM(v_load)(d->to_end + i)));
  }
  d->total = FM(v_exp)(FM(v_set)(d->total))[0];
  const float *weight = t->in.weight;
  if (weight) weight += t->b * s->weight_stride[0] + start * s->weight_stride[1] + head * s->weight_stride[2];
  for (int64_t i = 0; i < CHUNK; i++) d->weight[i] = i >= rows ? 0 : weight ? weight[i * s->weight_stride[1]] : 1;
}

/// A product of decays times one more, zero where it is no normal number, as P and R are: some processors are very slow with
/// subnormal numbers.
FM_INLINE vf FM(chunk_decayed)(vf reach, vf decay) {
  reach *= decay;
  return FM(v_select)(reach < FM(v_set)(1.17549435e-38f), FM(v_set)(0), reach);
}

/// Pointers to a chunk's rows of one head.
FM_INLINE void FM(chunk_point)(const chunk_task *t, const fm_type type, const void *base, const int64_t *stride, int64_t start,
                               int64_t rows, int64_t head, int64_t first, const void **to) {
  int64_t bytes = type == FM_BF16 ? 2 : 4;
  const char *row = (const char *)base + bytes * (t->b * stride[0] + start * stride[1] + head * stride[2] + first);
  for (int64_t i = 0; i < rows; i++) to[i] = row + bytes * i * stride[1];
}
FM_INLINE void FM(chunk_point_to_values)(const chunk_task *t, const fm_type type, int64_t start, int64_t rows, int64_t head,
                                         const void **to) {
  FM(chunk_point)(t, type, t->in.value, t->shape->value_stride, start, rows, head, t->first_value, to);
}

/// Asks for `rows` rows of a chunk before they are needed: rows of several heads lie far apart, and nothing else foresees them.
/// `to_write` is a constant.
FM_INLINE void FM(chunk_fetch)(const void *base, int64_t first, int64_t stride, int64_t rows, int64_t width, int64_t bytes,
                               const int to_write) {
  const char *row = (const char *)base + first * bytes;
  for (int64_t r = 0; r < rows; r++, row += stride * bytes)
    for (int64_t at = 0; at < width * bytes; at += 64) {
      if (to_write) __builtin_prefetch(row + at, 1, 2);
      else __builtin_prefetch(row + at, 0, 2);
    }
}

FM_INLINE vf FM(chunk_read)(const fm_type type, const void *row, int64_t x, int64_t width) {
  int64_t n = width - x;
  return n >= FM_LANES ? FM(v_read)(type, row, x) : n > 0 ? FM(v_read_n)(type, row, x, n) : FM(v_set)(0);
}
FM_INLINE void FM(chunk_write)(const fm_type type, void *row, int64_t x, vf v, int64_t width) {
  int64_t n = width - x;
  if (n >= FM_LANES) FM(v_write)(type, row, x, v);
  else if (n > 0) FM(v_write_n)(type, row, x, v, n);
}

/// Rows times a factor each, and in `scaled` times one more, for sums over the rows: as at_pack_summed. A row whose other factor is
/// zero is forgotten, whatever stands in it.
FM_INLINE void FM(chunk_pack_summed)(const int half, const fm_type type, const void *const *from, int64_t rows, int64_t width,
                                     int64_t padded, const float *factor, const float *more, float *to, float *scaled) {
  int64_t units = half ? (rows + 1) / 2 : rows, all = half ? CHUNK / 2 : CHUNK;
  for (int64_t u = 0; u < units; u++) {
    int64_t r = half ? 2 * u : u, two = half && r + 1 < rows;
    vf f = FM(v_set)(factor[r]), m = FM(v_set)(more[r]);
    vf f1 = FM(v_set)(two ? factor[r + 1] : 0), m1 = FM(v_set)(two ? more[r + 1] : 0);
    const int keeps = more[r] != 0, keeps1 = two && more[r + 1] != 0;
    const void *even = from[r], *odd = two ? from[r + 1] : even;
    float *plain = to + u * padded, *other = scaled + u * padded;
    for (int64_t x = 0; x < padded; x += FM_LANES) {
      vf a = f * FM(chunk_read)(type, even, x, width), b = FM(v_set)(0);
      if (two) b = f1 * FM(chunk_read)(type, odd, x, width);
      FM(v_store)(plain + x, half ? FM(at_pair)(a, b) : a);
      a = keeps ? a * m : FM(v_set)(0);
      b = keeps1 ? b * m1 : FM(v_set)(0);
      FM(v_store)(other + x, half ? FM(at_pair)(a, b) : a);
    }
  }
  memset(to + units * padded, 0, 4 * (size_t)((all - units) * padded));
  memset(scaled + units * padded, 0, 4 * (size_t)((all - units) * padded));
}

/// Rows times a factor each, as a product's first operand; `pitch` units apart.
FM_INLINE void FM(chunk_pack_rows)(const int half, const fm_type type, const void *const *from, int64_t rows, int64_t width,
                                   int64_t pitch, const float *factor, float *to) {
  for (int64_t r = 0; r < rows; r++) {
    vf f = FM(v_set)(factor[r]);
    for (int64_t x = 0; x < (half ? 2 * pitch : pitch); x += FM_LANES) {
      vf v = f * FM(chunk_read)(type, from[r], x, width);
      if (half) FM(v_store_bf16)((uint16_t *)(to + r * pitch) + x, v);
      else FM(v_store)(to + r * pitch + x, v);
    }
  }
  if (rows < CHUNK) memset(to + rows * pitch, 0, 4 * (size_t)((CHUNK - rows) * pitch));
}

/// A state (key_padded, value_padded) as a second operand for sums over keys: in bf16 pairs of its rows. f32 is read where it is.
FM_INLINE const float *FM(chunk_pack_state)(const int half, const float *state, int64_t keys, int64_t padded, float *to) {
  if (!half) return state;
  for (int64_t k = 0; k < keys; k += 2)
    for (int64_t x = 0; x < padded; x += FM_LANES)
      FM(v_store)(to + k / 2 * padded + x,
                  FM(at_pair)(FM(v_load)(state + k * padded + x), FM(v_load)(state + (k + 1) * padded + x)));
  return to;
}

/// A (rows, columns) tile of f32 as rows of a first operand; for bf16 narrowed into `to`.
FM_INLINE const float *FM(chunk_narrow)(const int half, const float *from, int64_t rows, int64_t columns, int64_t pitch, float *to) {
  if (!half) return from;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t x = 0; x < columns; x += FM_LANES)
      FM(v_store_bf16)((uint16_t *)(to + r * pitch) + x, FM(v_load)(from + r * columns + x));
  return to;
}

/// Copies a head's columns between a state in memory and its padded tile; no state is zeros.
FM_INLINE void FM(chunk_load_state)(const chunk_task *t, const float *from, float *to) {
  int64_t stride = t->shape->value_width, keys = t->shape->key_width, padded = t->value_padded;
  if (!from) { memset(to, 0, sizeof(float) * (size_t)(t->key_padded * padded)); return; }
  for (int64_t k = 0; k < keys; k++)
    for (int64_t x = 0; x < padded; x += FM_LANES)
      FM(v_store)(to + k * padded + x, FM(chunk_read)(FM_F32, from + k * stride, x, t->values));
  memset(to + keys * padded, 0, sizeof(float) * (size_t)((t->key_padded - keys) * padded));
}
FM_INLINE void FM(chunk_store_state)(const chunk_task *t, const float *from, float *to) {
  int64_t stride = t->shape->value_width;
  for (int64_t k = 0; k < t->shape->key_width; k++)
    for (int64_t x = 0; x < t->values; x += FM_LANES)
      FM(chunk_write)(FM_F32, to + k * stride, x, FM(v_load)(from + k * t->value_padded + x), t->values);
}

/// state <- total state + left right, left (key_width, positions). Where nothing is left of the state, not even its infinities are.
FM_INLINE void FM(chunk_update)(const chunk_task *t, const int half, int64_t rows, float total, const float *left, const float *right,
                                float *kept, float *state) {
  for (int64_t x = 0; x < t->value_padded; x += FM_LANES) FM(v_store)(kept + x, FM(v_set)(total));
  FM(at_product)(t->tile_unit, half, total == 0 ? AT_SCALED : AT_RESCALE, t->shape->key_width, t->value_padded / FM_LANES,
                 half ? (rows + 1) / 2 : rows, left, half ? CHUNK / 2 : CHUNK, right, t->value_padded, state, t->value_padded, 1, kept);
}
