// Tiles of attention: packing, the small matrix product, masks and the softmax, for one processor path.
//
// Everything works on 32-bit units: a unit is one f32, or two neighbouring bf16 along the summed axis where the processor
// multiplies such pairs (`half` is 1). So one product serves both, at half the depth for bf16.
//
// Scores are kept transposed, keys in rows and queries in lanes: the softmax then needs no sums across lanes.
#ifndef FM_VARIANT
#error "support/attention_tiles.h is for code compiled once per processor path"
#endif

// ---- The small product: c (rows, columns) from a (rows, depth), one unit broadcast at a time, and b (depth, columns) ----

// Registers hold 6 rows of AT_VECTORS vectors, or 12 of half as many.
#undef AT_VECTORS
#if FM_LANES == 16
#define AT_VECTORS 4
#else
#define AT_VECTORS 2
#endif
#define AT_ROWS_MOST 12

FM_INLINE vf FM(at_multiply_add)(const int half, vf a, vf b, vf c) {
#if FM_BF16_INSTRUCTIONS
  if (half) return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
#endif
  (void)half;
  return FM(v_fma)(a, b, c);
}

/// One block of c, kept in registers. `depth` is at least 1.
FM_INLINE void FM(at_block)(const int half, const int rows, const int vectors, at_mode mode, int64_t depth, const float *a,
                            int64_t a_pitch, const float *b, int64_t b_pitch, float *c, int64_t c_pitch, float scale,
                            const float *lane_scale) {
  vf sum[AT_ROWS_MOST][AT_VECTORS], bv[AT_VECTORS];
  // The first step sets the sums: zeroing them beforehand would make the compiler keep them in memory.
  for (int n = 0; n < vectors; n++) bv[n] = FM(v_load)(b + n * FM_LANES);
  for (int m = 0; m < rows; m++) {
    vf av = FM(v_set)(a[m * a_pitch]);
    for (int n = 0; n < vectors; n++) sum[m][n] = FM(at_multiply_add)(half, av, bv[n], FM(v_set)(0));
  }
  for (int64_t k = 1; k < depth; k++) {
    for (int n = 0; n < vectors; n++) bv[n] = FM(v_load)(b + k * b_pitch + n * FM_LANES);
    for (int m = 0; m < rows; m++) {
      vf av = FM(v_set)(a[m * a_pitch + k]);
      for (int n = 0; n < vectors; n++) sum[m][n] = FM(at_multiply_add)(half, av, bv[n], sum[m][n]);
    }
  }
  for (int m = 0; m < rows; m++)
    for (int n = 0; n < vectors; n++) {
      float *at = c + m * c_pitch + n * FM_LANES;
      vf old = FM(v_set)(0);
      if (mode == AT_SCALED) sum[m][n] *= FM(v_set)(scale);
      else old = FM(v_load)(at);
      if (mode == AT_RESCALE) sum[m][n] = FM(v_fma)(old, FM(v_load)(lane_scale + n * FM_LANES), sum[m][n]);
      else if (mode == AT_ADD) sum[m][n] += old;
      FM(v_store)(at, sum[m][n]);
    }
}

FM_INLINE void FM(at_panel)(const int half, const int vectors, at_mode mode, int64_t rows, int64_t depth, const float *a,
                            int64_t a_pitch, const float *b, int64_t b_pitch, float *c, int64_t c_pitch, float scale,
                            const float *lane_scale) {
  int64_t m = 0;
#define AT_ROWS(count)                                                                                                  \
  FM(at_block)(half, count, vectors, mode, depth, a + m * a_pitch, a_pitch, b, b_pitch, c + m * c_pitch, c_pitch, scale, \
               lane_scale);                                                                                             \
  m += count
  if (2 * vectors <= AT_VECTORS)
    while (rows - m >= 12) { AT_ROWS(12); }
  while (rows - m >= 6) { AT_ROWS(6); }
  if (rows - m >= 4) { AT_ROWS(4); }
  if (rows - m >= 2) { AT_ROWS(2); }
  if (rows - m >= 1) { AT_ROWS(1); }
#undef AT_ROWS
}

FM_INLINE void FM(at_product_of)(const int half, at_mode mode, int64_t rows, int64_t vectors, int64_t depth, const float *a,
                                 int64_t a_pitch, const float *b, int64_t b_pitch, float *c, int64_t c_pitch, float scale,
                                 const float *lane_scale) {
  int64_t n = 0;
#define AT_COLUMNS(count)                                                                                                  \
  FM(at_panel)(half, count, mode, rows, depth, a, a_pitch, b + n * FM_LANES, b_pitch, c + n * FM_LANES, c_pitch, scale, \
               lane_scale ? lane_scale + n * FM_LANES : lane_scale)
  for (; vectors - n >= AT_VECTORS; n += AT_VECTORS) AT_COLUMNS(AT_VECTORS);
#if AT_VECTORS == 4
  if (vectors - n == 3) AT_COLUMNS(3);
  if (vectors - n == 2) AT_COLUMNS(2);
#endif
  if (vectors - n == 1) AT_COLUMNS(1);
#undef AT_COLUMNS
}

static __attribute__((noinline)) void FM(at_product_f32)(at_mode mode, int64_t rows, int64_t vectors, int64_t depth,
                                                         const float *a, int64_t a_pitch, const float *b, int64_t b_pitch,
                                                         float *c, int64_t c_pitch, float scale, const float *lane_scale) {
  FM(at_product_of)(0, mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
}
#if FM_BF16_INSTRUCTIONS
static __attribute__((noinline)) void FM(at_product_bf16)(at_mode mode, int64_t rows, int64_t vectors, int64_t depth,
                                                          const float *a, int64_t a_pitch, const float *b, int64_t b_pitch,
                                                          float *c, int64_t c_pitch, float scale, const float *lane_scale) {
  FM(at_product_of)(1, mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
}
#endif
FM_INLINE void FM(at_product)(const int half, at_mode mode, int64_t rows, int64_t vectors, int64_t depth, const float *a,
                              int64_t a_pitch, const float *b, int64_t b_pitch, float *c, int64_t c_pitch, float scale,
                              const float *lane_scale) {
#if FM_BF16_INSTRUCTIONS
  if (half) {
    FM(at_product_bf16)(mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
    return;
  }
#endif
  (void)half;
  FM(at_product_f32)(mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
}

// ---- Packing ----

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

// ---- Masks ----

/// Hides, in scores (keys, AT_TILE lanes), what the mask hides. Rows are keys first_key and following.
static void FM(at_hide)(const at_job *job, const at_lanes *lanes, int64_t batch, int64_t first_key, int64_t keys,
                        float *scores) {
  const fm_attention_mask *mask = &job->shape->mask;
  const int32_t *positions =
      mask->key_positions ? mask->key_positions + batch * mask->key_position_stride + first_key : NULL;
  const int32_t *documents = mask->key_documents ? mask->key_documents + batch * mask->key_document_stride + first_key : NULL;
  int64_t vectors = (lanes->count + FM_LANES - 1) / FM_LANES;
  int compare_documents = mask->key_documents || mask->query_documents;
  vf hidden = FM(v_set)(-INFINITY);
  for (int64_t k = 0; k < keys; k++) {
    int32_t position = positions ? positions[k] : (int32_t)(first_key + k);
    vi p = FM(v_seti)(position), document = FM(v_seti)(documents ? documents[k] : 0);
    vi sink = FM(v_seti)(position <= job->last_sink ? -1 : 0), prefix = FM(v_seti)(position <= job->last_prefix ? -1 : 0);
    if (documents && documents[k] < 0) document = FM(v_seti)(-2);  // lanes that are padding hold -1
    float *row = scores + k * AT_TILE;
    for (int64_t v = 0; v < vectors; v++) {
      int64_t i = v * FM_LANES;
      vi low, high, upper, own;
      memcpy(&low, lanes->low + i, sizeof low);
      memcpy(&high, lanes->high + i, sizeof high);
      memcpy(&upper, lanes->upper + i, sizeof upper);
      memcpy(&own, lanes->document + i, sizeof own);
      vi seen = (vi)(p <= upper) & (sink | ((vi)(p >= low) & (vi)(p <= high)));
      seen |= prefix;
      if (compare_documents) seen &= (vi)(document == own);
      FM(v_store)(row + i, FM(v_select)(seen, FM(v_load)(row + i), hidden));
    }
  }
  if (!mask->visible) return;
  for (int64_t i = 0; i < lanes->count; i++) {
    const uint8_t *row = mask->visible + batch * mask->visible_batch_stride +
                         lanes->query[i] * mask->visible_row_stride + first_key;
    for (int64_t k = 0; k < keys; k++)
      if (!row[k]) scores[k * AT_TILE + i] = -INFINITY;
  }
}

// ---- Elementwise parts ----

/// 2^x for x <= 0 and a little above, -infinity gives 0: a polynomial on [-1/2, 1/2] fitted at Chebyshev's points,
/// relative error 1e-7, or 3e-6 where `half` rounds the result to bf16 anyway.
FM_INLINE vf FM(at_exp2)(const int half, vf x) {
  vf floor = FM(v_set)(-160.0f);
  x = FM(v_select)(floor > x, floor, x);  // a NaN stays
#if FM_LANES == 16
  vf n = (vf)_mm512_roundscale_ps((__m512)x, 0);
#else
  x = FM(v_select)(FM(v_set)(127.0f) < x, FM(v_set)(127.0f), x);
  vf magic = FM(v_set)(12582912.0f);
  vf n = (x + magic) - magic;
#endif
  vf r = x - n, p;
  if (half) {
    p = FM(v_fma)(r, FM(v_set)(9.560510206479316e-3f), FM(v_set)(5.59170391748701e-2f));
    p = FM(v_fma)(r, p, FM(v_set)(0.24024981109537327f));
    p = FM(v_fma)(r, p, FM(v_set)(0.693121967696062f));
  } else {
    p = FM(v_fma)(r, FM(v_set)(1.326697038639561e-3f), FM(v_set)(9.675459745517027e-3f));
    p = FM(v_fma)(r, p, FM(v_set)(5.550742616002395e-2f));
    p = FM(v_fma)(r, p, FM(v_set)(0.24022121753561743f));
    p = FM(v_fma)(r, p, FM(v_set)(0.6931469491610648f));
  }
  p = FM(v_fma)(r, p, FM(v_set)(1.0f));
#if FM_LANES == 16
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  vf small = FM(v_set)(-126.0f);
  vi tiny = (vi)(n < small);
  vi exponent = __builtin_convertvector(FM(v_select)(tiny, small, n), vi);
  return FM(v_select)(tiny, FM(v_set)(0), p * (vf)((exponent + FM(v_seti)(127)) << 23));
#endif
}

/// Soft caps scores (keys, AT_TILE lanes), given as s / cap, to cap tanh(s / cap) in powers of two (Gemma Team 2024).
static void FM(at_softcap)(float cap, int64_t keys, int64_t lanes, float *scores) {
  if (!(cap > 0)) return;
  vf height = FM(v_set)(cap * AT_LOG2E);
  for (int64_t k = 0; k < keys; k++)
    for (int64_t i = 0; i < lanes; i += FM_LANES)
      FM(v_store)(scores + k * AT_TILE + i, height * FM(v_tanh)(FM(v_load)(scores + k * AT_TILE + i)));
}

/// Two rows of f32 as one row of bf16 pairs.
FM_INLINE vf FM(at_pair)(vf even, vf odd) {
#if FM_BF16_INSTRUCTIONS
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                         20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  __m512bh both = _mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
  return (vf)_mm512_permutexvar_epi16(order, (__m512i)both);
#else
  (void)odd;
  return even;
#endif
}

/// One step of the running softmax over scores (keys, AT_TILE lanes), in powers of two: replaces them with probabilities
/// relative to the new maximum (f32 in place, bf16 pairs of keys packed into the first rows), updates maximum and sum, and writes
/// what older sums must be multiplied by.
FM_INLINE void FM(at_softmax_columns)(const int half, const int wide, int64_t keys, int64_t first, float *scores, float *maximum,
                                    float *sum, float *rescale) {
  vf top[4], total[4];
  for (int v = 0; v < wide; v++) top[v] = FM(v_load)(maximum + first + v * FM_LANES);
  for (int64_t k = 0; k < keys; k++)
    for (int v = 0; v < wide; v++) {
      vf s = FM(v_load)(scores + k * AT_TILE + first + v * FM_LANES);
      top[v] = FM(v_select)(s > top[v], s, top[v]);
    }
  for (int v = 0; v < wide; v++) {
    float *m = maximum + first + v * FM_LANES;
    vf old = FM(v_load)(m);
    FM(v_store)(m, top[v]);
    // Where nothing was seen yet the maximum is -infinity; 0 in its place keeps every power at 0.
    top[v] = FM(v_select)(top[v] == FM(v_set)(-INFINITY), FM(v_set)(0), top[v]);
    vf factor = FM(at_exp2)(0, old - top[v]);
    FM(v_store)(rescale + first + v * FM_LANES, factor);
    total[v] = FM(v_load)(sum + first + v * FM_LANES) * factor;
  }
  for (int64_t k = 0; k < keys; k += 1 + half) {
    const float *from = scores + k * AT_TILE + first;
    float *to = scores + (half ? k / 2 : k) * AT_TILE + first;
    for (int v = 0; v < wide; v++) {
      vf p = FM(at_exp2)(half, FM(v_load)(from + v * FM_LANES) - top[v]);
      total[v] += p;
      if (half) {
        vf q = FM(v_set)(0);
        if (k + 1 < keys) q = FM(at_exp2)(half, FM(v_load)(from + AT_TILE + v * FM_LANES) - top[v]);
        total[v] += q;
        p = FM(at_pair)(p, q);
      }
      FM(v_store)(to + v * FM_LANES, p);
    }
  }
  for (int v = 0; v < wide; v++) FM(v_store)(sum + first + v * FM_LANES, total[v]);
}

FM_INLINE void FM(at_softmax)(const int half, int64_t keys, int64_t lanes, float *scores, float *maximum, float *sum,
                              float *rescale) {
  int64_t vectors = (lanes + FM_LANES - 1) / FM_LANES, v = 0;
  for (; v + 4 <= vectors; v += 4) FM(at_softmax_columns)(half, 4, keys, v * FM_LANES, scores, maximum, sum, rescale);
  for (; v < vectors; v++) FM(at_softmax_columns)(half, 1, keys, v * FM_LANES, scores, maximum, sum, rescale);
}

/// From scores and dprobabilities (keys, AT_TILE lanes): probabilities, and dscores = scale * p * (dp - D), each in place as
/// rows for sums over queries; for bf16 `paired` gets dscores as pairs of keys. Capped scores have the slope 1 - tanh^2.
FM_INLINE void FM(at_score_gradient)(const int half, int64_t keys, int64_t lanes, float *scores, float *dprobabilities,
                                     float *paired, const float *log_sum, const float *product, float scale, float cap) {
  int64_t vectors = (lanes + FM_LANES - 1) / FM_LANES;
  for (int64_t k = 0; k < keys; k += 1 + half)
    for (int64_t v = 0; v < vectors; v++) {
      vf previous = FM(v_set)(0);
      vf log = FM(v_load)(log_sum + v * FM_LANES), d = FM(v_load)(product + v * FM_LANES);
      for (int i = 0; i < 1 + half; i++) {
        if (k + i >= keys) { FM(v_store)(paired + k / 2 * AT_TILE + v * FM_LANES, FM(at_pair)(previous, FM(v_set)(0))); break; }
        float *s = scores + (k + i) * AT_TILE, *g = dprobabilities + (k + i) * AT_TILE;
        vf score = FM(v_load)(s + v * FM_LANES), p = FM(at_exp2)(half, score - log);
        vf gradient = p * FM(v_set)(scale) * (FM(v_load)(g + v * FM_LANES) - d);
        if (cap > 0) {
          // What the mask hides is -infinity: its slope is 0 as well.
          vf t = FM(v_max)(score * FM(v_set)(1 / (cap * AT_LOG2E)), FM(v_set)(-1.0f));
          gradient *= FM(v_set)(1.0f) - t * t;
        }
        if (!half) {
          FM(v_store)(s + v * FM_LANES, p);
          FM(v_store)(g + v * FM_LANES, gradient);
        } else {
          // A row of bf16 is written behind where its f32 are read.
          FM(v_store_bf16)((uint16_t *)s + v * FM_LANES, p);
          FM(v_store_bf16)((uint16_t *)g + v * FM_LANES, gradient);
          if (i) FM(v_store)(paired + k / 2 * AT_TILE + v * FM_LANES, FM(at_pair)(previous, gradient));
          previous = gradient;
        }
      }
    }
}

// ---- Few queries: keys and values are read once, where they lie, as fast as memory gives them ----

FM_INLINE float FM(at_sum)(vf v) {
#if FM_LANES == 16
  return _mm512_reduce_add_ps((__m512)v);
#else
  return FM(v_sum)(v);
#endif
}

/// scores (keys, AT_TILE lanes) = scale q k for `rows` neighbouring lanes.
FM_INLINE void FM(at_few_scores)(const fm_type type, const int rows, int64_t keys, const void *const *key_rows, int64_t width,
                                 const float *queries, int64_t pitch, float scale, float *scores) {
  for (int64_t k = 0; k < keys; k++) {
    vf sum[4];
    for (int r = 0; r < rows; r++) sum[r] = FM(v_set)(0);
    int64_t i = 0;
    for (; i + FM_LANES <= width; i += FM_LANES) {
      vf x = FM(v_read)(type, key_rows[k], i);
      for (int r = 0; r < rows; r++) sum[r] = FM(v_fma)(x, FM(v_load)(queries + r * pitch + i), sum[r]);
    }
    if (i < width) {
      vf x = FM(v_read_n)(type, key_rows[k], i, width - i);
      for (int r = 0; r < rows; r++) sum[r] = FM(v_fma)(x, FM(v_load)(queries + r * pitch + i), sum[r]);
    }
    for (int r = 0; r < rows; r++) scores[k * AT_TILE + r] = FM(at_sum)(sum[r]) * scale;
  }
}

/// output (rows, pitch) = rescale output + probabilities values.
FM_INLINE void FM(at_few_outputs)(const fm_type type, const int rows, int64_t keys, const void *const *value_rows,
                                  int64_t width, const float *probabilities, const float *rescale, float *output,
                                  int64_t pitch) {
  for (int64_t i = 0; i < width;) {
    vf sum[4][4];
    const int wide = width - i >= 4 * FM_LANES ? 4 : 1;
    if (wide == 4) {
      for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) sum[r][v] = FM(v_load)(output + r * pitch + i + v * FM_LANES) * rescale[r];
      for (int64_t k = 0; k < keys; k++)
        for (int v = 0; v < 4; v++) {
          vf x = FM(v_read)(type, value_rows[k], i + v * FM_LANES);
          for (int r = 0; r < rows; r++) sum[r][v] = FM(v_fma)(x, FM(v_set)(probabilities[k * AT_TILE + r]), sum[r][v]);
        }
      for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) FM(v_store)(output + r * pitch + i + v * FM_LANES, sum[r][v]);
    } else {
      int64_t left = width - i < FM_LANES ? width - i : FM_LANES;
      for (int r = 0; r < rows; r++) sum[r][0] = FM(v_load)(output + r * pitch + i) * rescale[r];
      for (int64_t k = 0; k < keys; k++) {
        vf x = left == FM_LANES ? FM(v_read)(type, value_rows[k], i) : FM(v_read_n)(type, value_rows[k], i, left);
        for (int r = 0; r < rows; r++) sum[r][0] = FM(v_fma)(x, FM(v_set)(probabilities[k * AT_TILE + r]), sum[r][0]);
      }
      for (int r = 0; r < rows; r++) FM(v_store)(output + r * pitch + i, sum[r][0]);
    }
    i += wide * FM_LANES;
  }
}
