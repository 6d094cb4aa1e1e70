// The recurrent matrix packed into panels, and the small products with them, for recurrence.c.
// Included once per processor path, after support/scan_tile.h.
//
// A panel holds the columns of one block of outputs, so that it streams in order step after step and stays in the cache.
// Forward, a block is FM_LANES units with all their gates side by side, so that a unit's gates meet in registers; backward,
// it is RECURRENCE_COLUMNS units of the hidden state before. Products run over the inner index in order, whoever runs them.

#define RECURRENCE_COLUMNS (4 * FM_LANES)
#undef RECURRENCE_TILE_ROWS
#if FM_LANES == 16
#define RECURRENCE_TILE_ROWS 4
#else
#define RECURRENCE_TILE_ROWS 2
#endif

/// Whether products take pairs of bf16: the recurrent matrix as it is, the other side rounded. The sums and the state stay
/// f32. Narrow heads gain nothing and keep their f32 side. Nothing here depends on where a sequence was cut.
FM_INLINE int FM(recurrence_pairs)(const recurrence_call *call) {
  return FM_BF16_INSTRUCTIONS && call->type == FM_BF16 && call->head_width >= RECURRENCE_PAIRS_WIDTH;
}

/// Writes rows p and p + 1 of a panel of `stride` columns, `FM_LANES` columns at x: one after the other, or as pairs of bf16.
FM_INLINE void FM(recurrence_pack_rows)(int pairs, float *panel, int64_t stride, int64_t p, int64_t x, vf first, vf second) {
  if (pairs) {
    vi bits = (((vi)first >> 16) & FM(v_seti)(0xffff)) | ((vi)second & FM(v_seti)((int32_t)0xffff0000));
    FM(v_store)(panel + p / 2 * stride + x, (vf)bits);
  } else {
    FM(v_store)(panel + p * stride + x, first);
    FM(v_store)(panel + (p + 1) * stride + x, second);
  }
}

/// Packs one forward block: panel[p][gate][lane] = R[gate][unit + lane][p], and a row of zeros when the head's width is odd.
static void FM(recurrence_pack_forward)(void *context, int64_t block) {
  const recurrence_call *call = context;
  int64_t inner = call->head_width, unit = block % call->head_blocks * FM_LANES;
  int64_t first_unit = block / call->head_blocks * inner + unit, stride = call->gates * FM_LANES;
  int pairs = FM(recurrence_pairs)(call);
  float *panel = call->packed + block * call->panel;
  float rows[16 * 16], columns[16 * 16];
  memset(rows, 0, sizeof rows);
  for (int gate = 0; gate < call->gates; gate++)
    for (int64_t p = 0; p < inner; p += 16) {
      for (int lane = 0; lane < FM_LANES && unit + lane < inner; lane++)
        for (int64_t x = 0; x < 16; x += FM_LANES) {
          int64_t n = inner - p - x, at = (gate * call->width + first_unit + lane) * inner + p + x;
          FM(v_store)(rows + lane * 16 + x, n > 0 ? FM(scan_read_n)(call->type, call->recurrent, at, n) : FM(v_set)(0));
        }
      FM(scan_transpose16)(rows, 16, columns, 16);
      for (int64_t x = 0; x < 16 && p + x < inner; x += 2)
        FM(recurrence_pack_rows)(pairs, panel, stride, p + x, gate * FM_LANES, FM(v_load)(columns + x * 16),
                                 FM(v_load)(columns + (x + 1) * 16));
    }
}

/// Packs one backward block: panel[gate * head width + u][column] = R[gate][u][first column + column].
static void FM(recurrence_pack_backward)(void *context, int64_t block) {
  const recurrence_call *call = context;
  int64_t inner = call->head_width, column = block % call->head_panels * RECURRENCE_COLUMNS;
  int64_t first_unit = block / call->head_panels * inner, rows = call->gates * inner;
  int pairs = FM(recurrence_pairs)(call);
  float *panel = call->packed + block * call->panel;
  for (int64_t j = 0; j < rows; j += 2)
    for (int64_t x = 0; x < RECURRENCE_COLUMNS; x += FM_LANES) {
      vf row[2];
      for (int64_t k = 0; k < 2; k++) {
        int64_t n = j + k < rows ? inner - column - x : 0;
        int64_t at = ((j + k) / inner * call->width + first_unit + (j + k) % inner) * inner + column + x;
        row[k] = n > 0 ? FM(scan_read_n)(call->type, call->recurrent, at, n) : FM(v_set)(0);
      }
      FM(recurrence_pack_rows)(pairs, panel, RECURRENCE_COLUMNS, j, x, row[0], row[1]);
    }
}

/// acc[r][0..<vectors] += sum over p of left[r][p] panel[p][...]
FM_INLINE void FM(recurrence_multiply)(const int rows, const int vectors, const float *left, int64_t left_row,
                                       const float *panel, int64_t inner, vf *acc) {
  for (int64_t p = 0; p < inner; p++, panel += vectors * FM_LANES) {
    vf b[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) b[c] = FM(v_load)(panel + c * FM_LANES);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      vf x = FM(v_set)(left[r * left_row + p]);
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors; c++) acc[r * vectors + c] = FM(v_fma)(x, b[c], acc[r * vectors + c]);
    }
  }
}

/// The same on pairs of bf16.
FM_INLINE void FM(recurrence_multiply_pairs)(const int rows, const int vectors, const uint16_t *left, int64_t left_row,
                                             const float *panel, int64_t inner, vf *acc) {
#if FM_BF16_INSTRUCTIONS
  for (int64_t p = 0; p < inner; p += 2, panel += vectors * 16) {
    __m512bh b[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) b[c] = (__m512bh)_mm512_loadu_ps(panel + c * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      int32_t pair;
      memcpy(&pair, left + r * left_row + p, sizeof pair);
      __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors; c++)
        acc[r * vectors + c] = (vf)_mm512_dpbf16_ps((__m512)acc[r * vectors + c], x, b[c]);
    }
  }
#endif
}

/// The gates' sums of four units of one row, straight from the recurrent matrix: sums[4 gate + i] for unit + i.
FM_INLINE void FM(recurrence_dot4)(const recurrence_call *call, int64_t head, int64_t unit, const float *before, float *sums) {
  int64_t inner = call->head_width, rows[16];
  for (int i = 0; i < 16; i++) {
    int64_t gate = i / 4 < call->gates ? i / 4 : 0, u = unit + i % 4 < inner ? unit + i % 4 : inner - 1;
    rows[i] = (gate * call->width + head * inner + u) * inner;
  }
  vf acc[16];
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i++) acc[i] = FM(v_set)(0);
  int64_t p = 0;
  for (; p + FM_LANES <= inner; p += FM_LANES) {
    vf h = FM(v_load)(before + p);
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) acc[i] = FM(v_fma)(h, FM(v_read)(call->type, call->recurrent, rows[i] + p), acc[i]);
  }
  if (p < inner) {
    vf h = FM(v_load)(before + p);
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++)
      acc[i] = FM(v_fma)(h, FM(scan_read_n)(call->type, call->recurrent, rows[i] + p, inner - p), acc[i]);
  }
  FM(scan_sum16)(acc, sums);
}

/// Where a block of FM_LANES units of one row stands.
#undef recurrence_place
#define recurrence_place FM(recurrence_place_type)
typedef struct {
  int64_t head, first, count;  // the head, the block's first unit among all, and how many of its lanes are units
  int64_t at, step;            // its index in scratch rows, and that of the token
} recurrence_place;

FM_INLINE recurrence_place FM(recurrence_locate)(const recurrence_call *call, int64_t b, int64_t t, int64_t block) {
  int64_t head = block / call->head_blocks, unit = block % call->head_blocks * FM_LANES;
  return (recurrence_place){.head = head, .first = head * call->head_width + unit, .count = call->head_width - unit,
                            .at = b * call->row + head * call->padded + unit, .step = b * call->length + t};
}

/// The part of (head, row) pairs of one thread through all steps: `body` once for each head.
FM_INLINE void FM(recurrence_split)(const recurrence_call *call, int64_t index,
                                    void (*body)(const recurrence_call *, int64_t head, int64_t first, int64_t last)) {
  int64_t all = call->heads * call->batch, at = index * all / call->pieces, end = (index + 1) * all / call->pieces;
  while (at < end) {
    int64_t head = at / call->batch, first = at - head * call->batch, last = end - head * call->batch;
    if (last > call->batch) last = call->batch;
    body(call, head, first, last);
    at = head * call->batch + last;
  }
}
