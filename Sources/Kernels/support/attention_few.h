// Attention of few queries, for one processor path: keys and values are read once, where they lie, as fast as memory gives them.
#ifndef FM_VARIANT
#error "support/attention_few.h is for code compiled once per processor path"
#endif

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

/// One task where the queries of a key head are few: they walk over the keys together, four lanes at a time.
FM_INLINE void FM(at_few_body)(const at_job *job, const fm_type type, int64_t index) {
  const fm_attention_shape *shape = job->shape;
  int64_t range = index % job->ranges, pair = index / job->ranges;
  int64_t batch = pair / shape->key_value_heads, key_head = pair % shape->key_value_heads;
  int64_t first_tile = job->key_tiles * range / job->ranges, last_tile = job->key_tiles * (range + 1) / job->ranges;
  int64_t key_pitch = job->key_row_pitch, value_pitch = job->value_pitch;
  at_tile tile = at_tile_at(job, 0);
  int64_t lanes = tile.heads * tile.queries;

  float *next = job->scratch + (int64_t)fm_thread_index() * job->scratch_size;
  float *spare = next; next += AT_TILE * (key_pitch > value_pitch ? key_pitch : value_pitch);
  float *queries = next; next += AT_FEW * key_pitch;
  float *outputs = next; next += AT_FEW * value_pitch;
  float *turned = next; next += AT_TILE * value_pitch;
  float *scores = next; next += AT_TILE * AT_TILE;
  float *maximum = next; next += AT_TILE;
  float *sum = next; next += AT_TILE;
  float *rescale = next;
  const void *rows[AT_TILE];
  FM(at_query_rows)(job, &tile, batch, key_head, 1, job->query, shape->query_stride, rows);
  FM(at_pack_rows)(0, type, queries, key_pitch, rows, lanes, AT_FEW, shape->key_width);
  memset(outputs, 0, 4 * (size_t)(AT_FEW * value_pitch));
  memset(scores, 0, 4 * AT_TILE * AT_TILE);
  for (int i = 0; i < AT_TILE; i++) { maximum[i] = -INFINITY; sum[i] = 0; }

  at_lanes bounds;
  int have_bounds = 0;
  at_extent all = at_query_extent(job, batch, 0, tile.queries);
  int64_t extent_row = job->extent_rows > 1 ? batch : 0;
  const at_extent *key_extents = job->key_extents + extent_row * job->key_tiles;
  const at_extent *key_groups = job->key_groups + extent_row * job->key_group_count;
  for (int64_t t = first_tile; t < last_tile; t++) {
    if ((t % AT_GROUP == 0 || t == first_tile) && at_classify(job, &all, &key_groups[t / AT_GROUP]) == AT_EMPTY) {
      t = (t / AT_GROUP + 1) * AT_GROUP - 1;
      continue;
    }
    at_class class = at_classify(job, &all, &key_extents[t]);
    if (class == AT_EMPTY) continue;
    int64_t first_key = t * AT_TILE;
    int64_t count = shape->key_length - first_key < AT_TILE ? shape->key_length - first_key : AT_TILE;
    float scale = at_score_scale(shape);
    FM(at_key_rows)(job, batch, key_head, first_key, count, 1, job->key, shape->key_stride, rows);
    for (int64_t r = 0; r < lanes; r += 4) {
      const float *q = queries + r * key_pitch;
      if (lanes - r >= 4) FM(at_few_scores)(type, 4, count, rows, shape->key_width, q, key_pitch, scale, scores + r);
      else if (lanes - r == 1) FM(at_few_scores)(type, 1, count, rows, shape->key_width, q, key_pitch, scale, scores + r);
      else FM(at_few_scores)(type, (int)(lanes - r), count, rows, shape->key_width, q, key_pitch, scale, scores + r);
    }
    at_steps steps = at_one_step(count, lanes);
    FM(at_softcap)(shape->softcap, count, lanes, scores);
    if (class == AT_PARTIAL) {
      if (!have_bounds) { at_fill_lanes(job, batch, &tile, &bounds); have_bounds = 1; }
      FM(at_hide)(job, &bounds, &steps, batch, first_key, scores);
    }
    FM(at_softmax)(0, &steps, scores, maximum, sum, rescale);
    FM(at_key_rows)(job, batch, key_head, first_key, count, 1, job->value, shape->value_stride, rows);
    for (int64_t r = 0; r < lanes; r += 4) {
      float *o = outputs + r * value_pitch;
      if (lanes - r >= 4)
        FM(at_few_outputs)(type, 4, count, rows, shape->value_width, scores + r, rescale + r, o, value_pitch);
      else if (lanes - r == 1)
        FM(at_few_outputs)(type, 1, count, rows, shape->value_width, scores + r, rescale + r, o, value_pitch);
      else
        FM(at_few_outputs)(type, (int)(lanes - r), count, rows, shape->value_width, scores + r, rescale + r, o, value_pitch);
    }
  }
  for (int64_t w = 0; w < shape->value_width; w++)
    for (int64_t r = 0; r < AT_TILE; r++) turned[w * AT_TILE + r] = r < lanes ? outputs[r * value_pitch + w] : 0;
  FM(at_end_range)(job, &tile, 0, batch, key_head, range, turned, maximum, sum, spare);
}
