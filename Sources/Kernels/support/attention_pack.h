// Between attention's tensors and its packed tiles, for one processor path: where rows lie, packing, transposing, writing back.
#ifndef FM_VARIANT
#error "support/attention_pack.h is for code compiled once per processor path"
#endif

/// `rows` of `width` elements as rows of `pitch` units, zeros after the width and in rows up to `all_rows`.
FM_INLINE void FM(at_pack_rows)(const int half, const fm_type type, float *to, int64_t pitch, const void *const *from,
                                int64_t rows, int64_t all_rows, int64_t width) {
  for (int64_t r = 0; r < rows; r++) {
    float *row = to + r * pitch;
    if (half) {
      uint16_t *h = (uint16_t *)row;
      const uint16_t *source = from[r];
      int64_t i = 0;
      for (; i + 2 * FM_LANES <= width; i += 2 * FM_LANES) memcpy(h + i, source + i, 4 * FM_LANES);
      if (i < width) memcpy(h + i, source + i, 2 * (size_t)(width - i));
      if (width < 2 * pitch) memset(h + width, 0, 2 * (size_t)(2 * pitch - width));
    } else {
      int64_t i = 0;
      for (; i + FM_LANES <= width; i += FM_LANES) FM(v_store)(row + i, FM(v_read)(type, from[r], i));
      if (i < width) { FM(v_store)(row + i, FM(v_read_n)(type, from[r], i, width - i)); i += FM_LANES; }
      for (; i < pitch; i++) row[i] = 0;
    }
  }
  if (all_rows > rows) memset(to + rows * pitch, 0, 4 * (size_t)((all_rows - rows) * pitch));
}

/// Rows for sums over them: as at_pack_rows for f32; for bf16, row pairs (2j, 2j + 1) interleaved into one row of units.
FM_INLINE void FM(at_pack_summed)(const int half, const fm_type type, float *to, int64_t pitch, const void *const *from,
                                  int64_t rows, int64_t all_rows, int64_t width) {
  if (!half) { FM(at_pack_rows)(0, type, to, pitch, from, rows, all_rows, width); return; }
  int64_t units = (rows + 1) / 2;
  for (int64_t j = 0; j < units; j++) {
    const uint16_t *even = from[2 * j], *odd = 2 * j + 1 < rows ? from[2 * j + 1] : NULL;
    float *row = to + j * pitch;
    for (int64_t i = 0; i < pitch; i += FM_LANES) {
      int64_t left = width - i < FM_LANES ? width - i : FM_LANES;
      vf e, o = FM(v_set)(0);
      if (left <= 0) e = FM(v_set)(0);
      else if (left == FM_LANES) { e = FM(v_load_bf16)(even + i); if (odd) o = FM(v_load_bf16)(odd + i); }
      else { e = FM(v_load_bf16_n)(even + i, left); if (odd) o = FM(v_load_bf16_n)(odd + i, left); }
      // A bf16 widened to f32 sits in the upper half.
      vi low = (vi)((__typeof__((vi){0}))e >> 16) & FM(v_seti)(0xffff);
      FM(v_store)(row + i, (vf)(low | (vi)o));
    }
  }
  int64_t all_units = (all_rows + 1) / 2;
  if (all_units > units) memset(to + units * pitch, 0, 4 * (size_t)((all_units - units) * pitch));
}

/// to (columns, rows) = from (rows, columns); both counts are rounded up to 16 (to 4 on narrow paths), and both arrays have room for that.
static __attribute__((noinline)) void FM(at_transpose)(float *to, int64_t to_pitch, const float *from, int64_t from_pitch,
                                                       int64_t rows, int64_t columns) {
#if FM_LANES == 16
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; c += 16) {
      __m512 x[16], y[16];
      const float *f = from + r * from_pitch + c;
      float *t = to + c * to_pitch + r;
      // Quarters of four rows are gathered first, so that what remains is a 4 x 4 transpose in each 128-bit lane.
#pragma clang loop unroll(full)
      for (int i = 0; i < 4; i++) {
#pragma clang loop unroll(full)
        for (int q = 0; q < 4; q++) {
          __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(f + i * from_pitch + 4 * q));
          v = _mm512_insertf32x4(v, _mm_loadu_ps(f + (4 + i) * from_pitch + 4 * q), 1);
          v = _mm512_insertf32x4(v, _mm_loadu_ps(f + (8 + i) * from_pitch + 4 * q), 2);
          x[4 * q + i] = _mm512_insertf32x4(v, _mm_loadu_ps(f + (12 + i) * from_pitch + 4 * q), 3);
        }
      }
#pragma clang loop unroll(full)
      for (int q = 0; q < 4; q++) {
        __m512 *s = x + 4 * q, *d = y + 4 * q;
        __m512 a = _mm512_unpacklo_ps(s[0], s[1]), b = _mm512_unpackhi_ps(s[0], s[1]);
        __m512 e = _mm512_unpacklo_ps(s[2], s[3]), g = _mm512_unpackhi_ps(s[2], s[3]);
        d[0] = _mm512_shuffle_ps(a, e, 0x44);
        d[1] = _mm512_shuffle_ps(a, e, 0xee);
        d[2] = _mm512_shuffle_ps(b, g, 0x44);
        d[3] = _mm512_shuffle_ps(b, g, 0xee);
      }
#pragma clang loop unroll(full)
      for (int i = 0; i < 16; i++) _mm512_storeu_ps(t + i * to_pitch, y[i]);
    }
#else
  typedef float v4 __attribute__((vector_size(16)));
  for (int64_t r = 0; r < rows; r += 4)
    for (int64_t c = 0; c < columns; c += 4) {
      v4 s[4];
      for (int i = 0; i < 4; i++) memcpy(&s[i], from + (r + i) * from_pitch + c, 16);
      v4 a = __builtin_shufflevector(s[0], s[1], 0, 4, 1, 5), b = __builtin_shufflevector(s[0], s[1], 2, 6, 3, 7);
      v4 e = __builtin_shufflevector(s[2], s[3], 0, 4, 1, 5), g = __builtin_shufflevector(s[2], s[3], 2, 6, 3, 7);
      v4 d[4] = {__builtin_shufflevector(a, e, 0, 1, 4, 5), __builtin_shufflevector(a, e, 2, 3, 6, 7),
                 __builtin_shufflevector(b, g, 0, 1, 4, 5), __builtin_shufflevector(b, g, 2, 3, 6, 7)};
      for (int i = 0; i < 4; i++) memcpy(to + (c + i) * to_pitch + r, &d[i], 16);
    }
#endif
}

FM_INLINE int64_t FM(at_row_bytes)(const at_job *job, int64_t elements) {
  return (job->shape->type == FM_BF16 ? 2 : 4) * elements;
}

FM_INLINE const char *FM(at_row)(const at_job *job, const void *base, const int64_t *stride, int64_t batch, int64_t position,
                                 int64_t head) {
  return (const char *)base + FM(at_row_bytes)(job, batch * stride[0] + position * stride[1] + head * stride[2]);
}

FM_INLINE void FM(at_step_rows)(const at_job *job, int64_t count, const char *row, int64_t step, const int32_t *documents,
                                const void **rows) {
  for (int64_t i = 0; i < count; i++) rows[i] = row + i * step;
  if (!documents) return;
  for (int64_t i = 0; i < count; i++)
    if (documents[i] < 0) rows[i] = job->zeros;
}

/// Pointers to the rows of a tile's queries (or their outputs and gradients), in lane order. Rows that are read but belong to
/// padding become a row of zeros: what lies there may never have been written.
FM_INLINE void FM(at_query_rows)(const at_job *job, const at_tile *tile, int64_t batch, int64_t key_head, int read,
                                 const void *base, const int64_t *stride, const void **rows) {
  const fm_attention_mask *mask = &job->shape->mask;
  const int32_t *documents = mask->query_documents ? mask->query_documents + batch * mask->query_document_stride : NULL;
  int64_t step = FM(at_row_bytes)(job, stride[1]);
  for (int64_t h = 0; h < tile->heads; h++) {
    const char *row = FM(at_row)(job, base, stride, batch, tile->query, key_head * job->group + tile->head + h);
    FM(at_step_rows)(job, tile->queries, row, step, read && documents ? documents + tile->query : NULL, rows + h * tile->queries);
  }
}

FM_INLINE void FM(at_key_rows)(const at_job *job, int64_t batch, int64_t key_head, int64_t first, int64_t keys, int read,
                               const void *base, const int64_t *stride, const void **rows) {
  const fm_attention_mask *mask = &job->shape->mask;
  const int32_t *documents = mask->key_documents ? mask->key_documents + batch * mask->key_document_stride + first : NULL;
  int64_t step = FM(at_row_bytes)(job, stride[1]);
  const char *row = FM(at_row)(job, base, stride, batch, first, key_head);
  FM(at_step_rows)(job, keys, row, step, read ? documents : NULL, rows);
}

/// Asks for a tile's rows of one head that are packed next, while products keep the processor busy. Rows of one head lie so far
/// apart that they share few of a cache's sets: what was read for the last tile is gone again.
FM_INLINE void FM(at_fetch_rows)(const at_job *job, int64_t batch, int64_t first, int64_t length, int64_t head, int64_t width,
                                 const void *base, const int64_t *stride) {
  int64_t count = at_clamp(length - first, 0, AT_TILE);
  int64_t bytes = FM(at_row_bytes)(job, width), step = FM(at_row_bytes)(job, stride[1]);
  const char *row = FM(at_row)(job, base, stride, batch, first, head);
  for (int64_t r = 0; r < count; r++)
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + r * step + i, 0, 2);
}

/// Writes a transposed tile (width, lanes), each lane times its factor, as rows of the shape's type. Destroys `spare`.
FM_INLINE void FM(at_write_lanes)(const at_job *job, const float *tile, float *spare, int64_t pitch, int64_t lanes,
                                  int64_t width, const float *factor, const void *const *rows) {
  fm_type type = job->shape->type;
  FM(at_transpose)(spare, pitch, tile, AT_TILE, width, lanes);
  for (int64_t r = 0; r < lanes; r++) {
    vf f = FM(v_set)(factor ? factor[r] : 1);
    for (int64_t i = 0; i < width; i += FM_LANES) {
      vf v = FM(v_load)(spare + r * pitch + i);
      if (factor) v = factor[r] == 0 ? FM(v_set)(0) : v * f;
      if (width - i >= FM_LANES) FM(v_write)(type, (void *)rows[r], i, v);
      else FM(v_write_n)(type, (void *)rows[r], i, v, width - i);
    }
  }
}
