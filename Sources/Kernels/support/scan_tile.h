// Small products and loads on padded f32 tiles, shared by the recurrences (gated_scan.c, lstm.c).
// Included once per processor path, after support/vector.h.
//
// Tiles have widths that are multiples of 16 and zeros in the padding, so that the inner loops have no tails.
#define SCAN_ROWS 16

#ifndef FERMATA_SCAN_TILE_TYPES
#define FERMATA_SCAN_TILE_TYPES
/// One product in a sum of products: a(m, p) = a[m * a_row + p * a_step], b(p, n) = b[p * b_step + n], p < inner.
typedef struct {
  const float *a;
  int64_t a_row, a_step;
  const float *b;
  int64_t b_step, inner;
} scan_factors;

static inline int64_t scan_round_up(int64_t n) { return (n + 15) & ~(int64_t)15; }
#endif

/// Like v_read_n and v_write_n, for any n above 0: of more than a vector, a whole one.
FM_INLINE vf FM(scan_read_n)(fm_type type, const void *base, int64_t i, int64_t n) {
  return n >= FM_LANES ? FM(v_read)(type, base, i) : FM(v_read_n)(type, base, i, n);
}
FM_INLINE void FM(scan_write_n)(fm_type type, void *base, int64_t i, vf v, int64_t n) {
  if (n >= FM_LANES) FM(v_write)(type, base, i, v);
  else FM(v_write_n)(type, base, i, v, n);
}

/// Reads `rows` rows of `width` elements, `stride` apart, into a tile of SCAN_ROWS x padded floats, multiplied by `factor`.
/// What lies `ahead` elements further is fetched into the cache meanwhile (0: nothing is).
__attribute__((unused)) static void FM(scan_load_tile)(fm_type type, const void *base, int64_t offset, int64_t stride, int64_t rows,
                               int64_t width, int64_t padded, float factor, int64_t ahead, float *tile) {
  vf scale = FM(v_set)(factor), zero = FM(v_set)(0);
  for (int64_t r = 0; r < rows; r++, offset += stride, tile += padded) {
    int64_t x = 0;
    if (ahead) {
      const char *next = (const char *)base + (offset + ahead) * (type == FM_F32 ? 4 : 2);
      for (int64_t byte = 0; byte < width * (type == FM_F32 ? 4 : 2); byte += 64) __builtin_prefetch(next + byte);
    }
    if (type == FM_F32)
      for (; x + FM_LANES <= width; x += FM_LANES) FM(v_store)(tile + x, scale * FM(v_read)(FM_F32, base, offset + x));
    else
      for (; x + FM_LANES <= width; x += FM_LANES) FM(v_store)(tile + x, scale * FM(v_read)(FM_BF16, base, offset + x));
    if (x < width) {
      FM(v_store)(tile + x, scale * FM(scan_read_n)(type, base, offset + x, width - x));
      x += FM_LANES;
    }
    for (; x < padded; x += FM_LANES) FM(v_store)(tile + x, zero);
  }
  if (rows < SCAN_ROWS) memset(tile, 0, sizeof(float) * (size_t)((SCAN_ROWS - rows) * padded));
}

/// Writes the first `rows` rows and `width` columns of a tile.
__attribute__((unused)) static void FM(scan_store_tile)(fm_type type, void *base, int64_t offset, int64_t stride, int64_t rows, int64_t width,
                                int64_t padded, float factor, const float *tile) {
  vf scale = FM(v_set)(factor);
  for (int64_t r = 0; r < rows; r++, offset += stride, tile += padded) {
    int64_t x = 0;
    if (type == FM_F32)
      for (; x + FM_LANES <= width; x += FM_LANES) FM(v_write)(FM_F32, base, offset + x, scale * FM(v_load)(tile + x));
    else
      for (; x + FM_LANES <= width; x += FM_LANES) FM(v_write)(FM_BF16, base, offset + x, scale * FM(v_load)(tile + x));
    if (x < width) FM(scan_write_n)(type, base, offset + x, scale * FM(v_load)(tile + x), width - x);
  }
}

/// out[i] = the sum of the lanes of v[i], for 16 vectors.
FM_INLINE void FM(scan_sum16)(const vf *v, float *out) {
#if FM_LANES == 16
  __m512 quarter[4];
#pragma clang loop unroll(full)
  for (int q = 0; q < 4; q++) {
    __m512 a = (__m512)v[4 * q], b = (__m512)v[4 * q + 1], c = (__m512)v[4 * q + 2], d = (__m512)v[4 * q + 3];
    __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    quarter[q] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  }
  __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(quarter[0], quarter[1], 0x88), _mm512_shuffle_f32x4(quarter[0], quarter[1], 0xdd));
  __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(quarter[2], quarter[3], 0x88), _mm512_shuffle_f32x4(quarter[2], quarter[3], 0xdd));
  FM(v_store)(out, (vf)_mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd)));
#else
  for (int i = 0; i < 16; i++) out[i] = FM(v_sum)(v[i]);
#endif
}

/// to[c * to_row + r] = from[r * from_row + c] for a 16 x 16 block.
FM_INLINE void FM(scan_transpose16)(const float *from, int64_t from_row, float *to, int64_t to_row) {
#if FM_LANES == 16
  __m512 a[16], b[16];
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_ps(from + i * from_row);
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i += 4) {
#pragma clang loop unroll(full)
    for (int h = 0; h < 2; h++) {
      __m512d x = _mm512_castps_pd(b[i + h]), y = _mm512_castps_pd(b[i + 2 + h]);
      a[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
      a[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
    }
  }
  // a[4 q + c] holds, in its 128-bit lane l, column 4 l + c of rows 4 q ... 4 q + 3.
#pragma clang loop unroll(full)
  for (int c = 0; c < 4; c++) {
    __m512 even01 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88), odd01 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd);
    __m512 even23 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88), odd23 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd);
    _mm512_storeu_ps(to + c * to_row, _mm512_shuffle_f32x4(even01, even23, 0x88));
    _mm512_storeu_ps(to + (4 + c) * to_row, _mm512_shuffle_f32x4(odd01, odd23, 0x88));
    _mm512_storeu_ps(to + (8 + c) * to_row, _mm512_shuffle_f32x4(even01, even23, 0xdd));
    _mm512_storeu_ps(to + (12 + c) * to_row, _mm512_shuffle_f32x4(odd01, odd23, 0xdd));
  }
#else
  for (int r = 0; r < 16; r++)
    for (int c = 0; c < 16; c++) to[c * to_row + r] = from[r * from_row + c];
#endif
}

FM_INLINE void FM(scan_accumulate)(const int rows, const int vectors, const scan_factors *f, int64_t m, int64_t n, vf *acc) {
  const float *a = f->a + m * f->a_row, *b = f->b + n;
  const int64_t a_row = f->a_row, a_step = f->a_step, b_step = f->b_step;
  for (int64_t p = f->inner; p > 0; p--, a += a_step, b += b_step) {
    vf row[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) row[c] = FM(v_load)(b + c * FM_LANES);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      vf x = FM(v_set)(a[r * a_row]);
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors; c++) acc[r * vectors + c] = FM(v_fma)(x, row[c], acc[r * vectors + c]);
    }
  }
}

FM_INLINE void FM(scan_block)(const int rows, const int vectors, const scan_factors *first, const scan_factors *second,
                              int64_t m, int64_t n, float *c, int64_t c_row, const float *decay) {
  vf acc[16];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows * vectors; i++) acc[i] = FM(v_set)(0);
  if (first) FM(scan_accumulate)(rows, vectors, first, m, n, acc);
  if (second) FM(scan_accumulate)(rows, vectors, second, m, n, acc);
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++) {
    float *to = c + (m + r) * c_row + n;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      vf sum = acc[r * vectors + v];
      if (decay) sum = FM(v_fma)(FM(v_set)(decay[m + r]), FM(v_load)(to + v * FM_LANES), sum);
      FM(v_store)(to + v * FM_LANES, sum);
    }
  }
}

/// c(m, n) = [decay[m] c(m, n)] + first + second for m < rows, n < columns (both multiples of 16).
/// Each factor pair and `decay` may be NULL. Sums run over the inner index in order.
__attribute__((unused)) static void FM(scan_product)(int64_t rows, int64_t columns, const scan_factors *first, const scan_factors *second,
                             float *c, int64_t c_row, const float *decay) {
  int64_t n = 0;
#if FM_LANES == 16
  for (; n + 64 <= columns; n += 64)
    for (int64_t m = 0; m < rows; m += 4) FM(scan_block)(4, 4, first, second, m, n, c, c_row, decay);
  for (; n + 32 <= columns; n += 32)
    for (int64_t m = 0; m < rows; m += 8) FM(scan_block)(8, 2, first, second, m, n, c, c_row, decay);
  for (; n < columns; n += 16)
    for (int64_t m = 0; m < rows; m += 16) FM(scan_block)(16, 1, first, second, m, n, c, c_row, decay);
#else
  for (; n < columns; n += 2 * FM_LANES)
    for (int64_t m = 0; m < rows; m += 4) FM(scan_block)(4, 2, first, second, m, n, c, c_row, decay);
#endif
}
