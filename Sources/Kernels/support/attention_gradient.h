// What attention's backward needs of queries and of scores, for one processor path: packed sides, sums, gradients of scores.
#ifndef FM_VARIANT
#error "support/attention_gradient.h is for code compiled once per processor path"
#endif

/// For one key and a vector of lanes: the probability, and dscore = scale * p * (dp - D). Capped scores have the slope
/// 1 - tanh^2.
FM_INLINE void FM(at_slope)(const int half, vf score, vf dprobability, vf log_sum, vf product, float scale, float cap, vf *p,
                            vf *gradient) {
  *p = FM(v_exp2)(half, score - log_sum);
  *gradient = *p * FM(v_set)(scale) * (dprobability - product);
  if (cap > 0) {
    // What the mask hides is -infinity: its slope is 0 as well.
    vf t = FM(v_max)(score * FM(v_set)(1 / (cap * AT_LOG2E)), FM(v_set)(-1.0f));
    *gradient *= FM(v_set)(1.0f) - t * t;
  }
}

/// at_score_gradient for `wide` vectors of lanes from `lane` on.
FM_INLINE void FM(at_gradient_columns)(const int half, const int wide, int64_t first, int64_t last, int64_t lane, float *scores,
                                       float *dprobabilities, float *paired, const float *log_sum, const float *product,
                                       float scale, float cap) {
  vf log[4], d[4], p, g, next_p, next_g;
  for (int v = 0; v < wide; v++) log[v] = FM(v_load)(log_sum + lane + v * FM_LANES);
  for (int v = 0; v < wide; v++) d[v] = FM(v_load)(product + lane + v * FM_LANES);
  for (int64_t k = first; k < last; k += 1 + half) {
    float *s = scores + k * AT_TILE, *t = dprobabilities + k * AT_TILE;
    for (int v = 0; v < wide; v++) {
      int64_t i = lane + v * FM_LANES;
      FM(at_slope)(half, FM(v_load)(s + i), FM(v_load)(t + i), log[v], d[v], scale, cap, &p, &g);
      if (!half) {
        FM(v_store)(s + i, p);
        FM(v_store)(t + i, g);
        continue;
      }
      // The last of an odd number of keys has no other half: zeros, in a row that nothing reads.
      if (k + 1 == last) next_p = next_g = FM(v_set)(0);
      else FM(at_slope)(half, FM(v_load)(s + AT_TILE + i), FM(v_load)(t + AT_TILE + i), log[v], d[v], scale, cap, &next_p,
                        &next_g);
      // A row of bf16 is written behind where its f32 are read.
      FM(at_store_halves)((uint16_t *)s + i, p, next_p);
      FM(v_store)(paired + k / 2 * AT_TILE + i, FM(at_store_halves)((uint16_t *)t + i, g, next_g));
    }
  }
}

/// From scores and dprobabilities (keys, AT_TILE lanes): probabilities and dscores, each in place as rows for sums over queries;
/// for bf16 `paired` gets dscores as pairs of keys.
FM_INLINE void FM(at_score_gradient)(const int half, const at_steps *steps, float *scores, float *dprobabilities, float *paired,
                                     const float *log_sum, const float *product, float scale, float cap) {
  for (int64_t i = 0; i < steps->count; i++) {
    int64_t first = steps->key[i], last = steps->key[i + 1], lane = steps->lane[i], end = steps->lane[steps->count];
#define AT_COLUMNS(wide)                                                                                                \
  FM(at_gradient_columns)(half, wide, first, last, lane, scores, dprobabilities, paired, log_sum, product, scale, cap); \
  lane += wide * FM_LANES
    while (lane + 4 * FM_LANES <= end) { AT_COLUMNS(4); }
    while (lane < end) { AT_COLUMNS(1); }
#undef AT_COLUMNS
  }
}

/// What a tile of queries brings to the backward, packed. As many as fit are kept from one block of keys to the next.
typedef struct { float *query_columns, *query_rows, *doutput_columns, *doutput_rows; } FM(at_query_side);

FM_INLINE FM(at_query_side) FM(at_query_side_in)(const at_job *job, float *memory) {
  FM(at_query_side) side;
  // bf16 sums over pairs of queries.
  int64_t deep = job->half ? AT_TILE / 2 : AT_TILE;
  side.query_columns = memory;
  side.query_rows = side.query_columns + job->key_pitch * AT_TILE;
  side.doutput_columns = side.query_rows + job->key_row_pitch * deep;
  side.doutput_rows = side.doutput_columns + job->value_unit_pitch * AT_TILE;
  return side;
}

FM_INLINE void FM(at_pack_query_side)(const at_job *job, const int half, const fm_type type, const at_tile *tile, int64_t batch,
                                      int64_t key_head, float *spare, const FM(at_query_side) *side) {
  const fm_attention_shape *shape = job->shape;
  const void *rows[AT_TILE];
  int64_t lanes = tile->heads * tile->queries, value_width = shape->value_width;
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->query, shape->query_stride, rows);
  FM(at_pack_rows)(half, type, spare, job->key_pitch, rows, lanes, AT_TILE, shape->key_width);
  FM(at_transpose)(side->query_columns, AT_TILE, spare, job->key_pitch, AT_TILE, job->key_units);
  FM(at_pack_summed)(half, type, side->query_rows, job->key_row_pitch, rows, lanes, lanes, shape->key_width);
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->doutput, job->strides->doutput_stride, rows);
  FM(at_pack_rows)(half, type, spare, job->value_pitch, rows, lanes, AT_TILE, value_width);
  FM(at_transpose)(side->doutput_columns, AT_TILE, spare, job->value_pitch, AT_TILE, job->value_units);
  FM(at_pack_summed)(half, type, side->doutput_rows, job->value_pitch, rows, lanes, lanes, value_width);
  // The tile after this one; where several heads share a tile there is none.
  int64_t next = tile->query + tile->queries, head = key_head * job->group + tile->head, length = shape->query_length;
  FM(at_fetch_rows)(job, batch, next, length, head, shape->key_width, job->query, shape->query_stride);
  FM(at_fetch_rows)(job, batch, next, length, head, value_width, job->doutput, job->strides->doutput_stride);
}

/// Of each lane of a tile of queries the logarithm of its sum in powers of two, and D = <output, doutput> - dlog_sum_exp.
FM_INLINE void FM(at_read_sums)(const at_job *job, const fm_type type, const at_tile *tile, int64_t batch, int64_t key_head,
                                float *log_sum, float *product) {
  const fm_attention_shape *shape = job->shape;
  const void *rows[AT_TILE], *output_rows[AT_TILE];
  int64_t lanes = tile->heads * tile->queries, value_width = shape->value_width;
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->doutput, job->strides->doutput_stride, rows);
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->output, shape->output_stride, output_rows);
  for (int64_t i = 0; i < AT_TILE; i++) { log_sum[i] = INFINITY; product[i] = 0; }
  for (int64_t i = 0; i < lanes; i++) {
    int64_t head = key_head * job->group + tile->head + i / tile->queries;
    int64_t at = (batch * shape->query_heads + head) * shape->query_length + tile->query + i % tile->queries;
    // A query that saw nothing has probability 2^(s - infinity) = 0 everywhere.
    if (job->log_sum_exp[at] == -INFINITY) continue;
    log_sum[i] = job->log_sum_exp[at] * AT_LOG2E;
    vf total = FM(v_set)(0);
    int64_t w = 0;
    for (; w + FM_LANES <= value_width; w += FM_LANES)
      total = FM(v_fma)(FM(v_read)(type, output_rows[i], w), FM(v_read)(type, rows[i], w), total);
    if (w < value_width)
      total = FM(v_fma)(FM(v_read_n)(type, output_rows[i], w, value_width - w),
                        FM(v_read_n)(type, rows[i], w, value_width - w), total);
    product[i] = FM(v_sum)(total) - (job->dlog_sum_exp ? job->dlog_sum_exp[at] : 0);
  }
}
