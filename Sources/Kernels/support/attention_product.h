// Attention's small product, for one processor path: c (rows, columns) from a (rows, depth), one unit broadcast at a time, and
// b (depth, columns).
//
// Everything works on 32-bit units: a unit is one f32, or two neighbouring bf16 along the summed axis where the processor
// multiplies such pairs (`half` is 1). So one product serves both, at half the depth for bf16.
//
// Rows of a and c are allocated in multiples of 16: tile instructions (fermata_tiles.h) take them 16 at a time.
#ifndef FM_VARIANT
#error "support/attention_product.h is for code compiled once per processor path"
#endif

// Whether this variant knows pairs of bf16: where dot products of them exist, and in the portable one for emulated tiles.
#undef AT_PAIRS
#define AT_PAIRS (FM_BF16_INSTRUCTIONS || FM_LANES == 4)

// Registers hold 6 rows of AT_VECTORS vectors. One vector alone takes 12 rows, so that sums do not wait for each other; with 12
// rows of two the compiler keeps sums in memory.
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
  // One loop a mode: a branch among the sums would make the compiler keep them in memory.
#define AT_STORE(value)                                        \
  for (int m = 0; m < rows; m++)                               \
    for (int n = 0; n < vectors; n++) {                        \
      float *at = c + m * c_pitch + n * FM_LANES;              \
      FM(v_store)(at, value);                                  \
    }
  if (mode == AT_SCALED) AT_STORE(sum[m][n] * FM(v_set)(scale))
  else if (mode == AT_ADD) AT_STORE(FM(v_load)(at) + sum[m][n])
  else AT_STORE(FM(v_fma)(FM(v_load)(at), FM(v_load)(lane_scale + n * FM_LANES), sum[m][n]))
#undef AT_STORE
}

FM_INLINE void FM(at_panel)(const int half, const int vectors, at_mode mode, int64_t rows, int64_t depth, const float *a,
                            int64_t a_pitch, const float *b, int64_t b_pitch, float *c, int64_t c_pitch, float scale,
                            const float *lane_scale) {
  int64_t m = 0;
#define AT_ROWS(count)                                                                                                  \
  FM(at_block)(half, count, vectors, mode, depth, a + m * a_pitch, a_pitch, b, b_pitch, c + m * c_pitch, c_pitch, scale, \
               lane_scale);                                                                                             \
  m += count
  if (vectors == 1)
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
#if AT_PAIRS
/// The same by tile instructions, which can only add: what else the mode asks for is a pass before or after.
static __attribute__((noinline)) void FM(at_product_tiles)(const fm_tiles *tiles, at_mode mode, int64_t rows, int64_t vectors,
                                                           int64_t depth, const float *a, int64_t a_pitch, const float *b,
                                                           int64_t b_pitch, float *c, int64_t c_pitch, float scale,
                                                           const float *lane_scale) {
  if (mode == AT_RESCALE)
    for (int64_t m = 0; m < rows; m++)
      for (int64_t i = 0; i < vectors * FM_LANES; i += FM_LANES)
        FM(v_store)(c + m * c_pitch + i, FM(v_load)(c + m * c_pitch + i) * FM(v_load)(lane_scale + i));
  tiles->product(rows, (vectors * FM_LANES + 15) / 16 * 16, depth, a, a_pitch, b, b_pitch, c, c_pitch, mode != AT_SCALED);
  if (mode == AT_SCALED && scale != 1)
    for (int64_t m = 0; m < rows; m++)
      for (int64_t i = 0; i < vectors * FM_LANES; i += FM_LANES)
        FM(v_store)(c + m * c_pitch + i, FM(v_load)(c + m * c_pitch + i) * FM(v_set)(scale));
}
#endif

FM_INLINE void FM(at_product)(const fm_tiles *tiles, const int half, at_mode mode, int64_t rows, int64_t vectors, int64_t depth,
                              const float *a, int64_t a_pitch, const float *b, int64_t b_pitch, float *c, int64_t c_pitch,
                              float scale, const float *lane_scale) {
#if AT_PAIRS
  if (half && tiles) {
    FM(at_product_tiles)(tiles, mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
    return;
  }
#endif
#if FM_BF16_INSTRUCTIONS
  if (half) {
    FM(at_product_bf16)(mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
    return;
  }
#endif
  (void)tiles;
  (void)half;
  FM(at_product_f32)(mode, rows, vectors, depth, a, a_pitch, b, b_pitch, c, c_pitch, scale, lane_scale);
}

// The products with a tile of scores (keys in rows, AT_TILE lanes), of which only some steps are there.

FM_INLINE int64_t FM(at_vectors)(int64_t lanes) { return (lanes + FM_LANES - 1) / FM_LANES; }

/// To the scores: c (keys, lanes) = scale a (keys, depth) b (depth, lanes).
FM_INLINE void FM(at_product_to_lanes)(const at_job *job, const int half, const at_steps *steps, int64_t depth, const float *a,
                                       int64_t a_pitch, const float *b, float *c, float scale) {
  for (int64_t i = 0; i < steps->count; i++) {
    int64_t key = steps->key[i], lane = steps->lane[i], vectors = FM(at_vectors)(steps->lane[steps->count] - lane);
    FM(at_product)(job->tile_unit, half, AT_SCALED, steps->key[i + 1] - key, vectors, depth, a + key * a_pitch, a_pitch, b + lane, AT_TILE,
                   c + key * AT_TILE + lane, AT_TILE, scale, NULL);
  }
}

/// From the scores, summed over lanes: c (keys, pitch) += scores b (lanes, pitch).
FM_INLINE void FM(at_product_over_lanes)(const at_job *job, const int half, const at_steps *steps, const float *scores,
                                         const float *b, int64_t pitch, float *c) {
  for (int64_t i = 0; i < steps->count; i++) {
    int64_t key = steps->key[i], lane = steps->lane[i], left = steps->lane[steps->count] - lane, unit = half ? lane / 2 : lane;
    FM(at_product)(job->tile_unit, half, AT_ADD, steps->key[i + 1] - key, pitch / FM_LANES, half ? (left + 1) / 2 : left,
                   scores + key * AT_TILE + unit, AT_TILE, b + unit * pitch, pitch, c + key * pitch, pitch, 1, NULL);
  }
}

/// From the scores, summed over keys (for bf16 pairs of them): c (rows, lanes) is added to, or rescaled lane by lane first.
FM_INLINE void FM(at_product_over_keys)(const at_job *job, const int half, at_mode mode, const at_steps *steps, int64_t rows,
                                        const float *a, const float *scores, float *c, const float *lane_scale) {
  for (int64_t i = 0; i < steps->count; i++) {
    int64_t lane = steps->lane[i], keys = steps->key[i + 1];
    FM(at_product)(job->tile_unit, half, mode, rows, FM(at_vectors)(steps->lane[i + 1] - lane), half ? (keys + 1) / 2 : keys, a, AT_TILE,
                   scores + lane, AT_TILE, c + lane, AT_TILE, 1, lane_scale ? lane_scale + lane : NULL);
  }
}
