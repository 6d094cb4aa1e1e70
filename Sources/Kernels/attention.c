// Exact attention in tiles, forward and backward (Dao, FlashAttention-2, 2023; the running softmax after Milakov and
// Gimelshein, 2018): a task owns some queries of one key head and walks over tiles of keys with a running maximum and sum.
// The backward computes probabilities again from log_sum_exp. Work is divided by shape alone, never by the number of threads.
#include "fermata_attention.h"
#ifdef FM_VARIANT
#include "support/attention_tiles.h"

FM_INLINE const void *FM(at_row)(fm_type type, const void *base, const int64_t *stride, int64_t batch, int64_t position,
                                 int64_t head) {
  return (const char *)base + (type == FM_BF16 ? 2 : 4) * (batch * stride[0] + position * stride[1] + head * stride[2]);
}

/// Pointers to the rows of a tile's queries (or their outputs and gradients), in lane order. Rows that are read but belong to
/// padding become a row of zeros: what lies there may never have been written.
FM_INLINE void FM(at_query_rows)(const at_job *job, const at_tile *tile, int64_t batch, int64_t key_head, int read,
                                 const void *base, const int64_t *stride, const void **rows) {
  const fm_attention_mask *mask = &job->shape->mask;
  const int32_t *documents = mask->query_documents ? mask->query_documents + batch * mask->query_document_stride : NULL;
  for (int64_t i = 0; i < tile->heads * tile->queries; i++) {
    int64_t query = tile->query + i % tile->queries, head = key_head * job->group + tile->head + i / tile->queries;
    rows[i] = read && documents && documents[query] < 0 ? job->zeros
                                                        : FM(at_row)(job->shape->type, base, stride, batch, query, head);
  }
}

FM_INLINE void FM(at_key_rows)(const at_job *job, int64_t batch, int64_t key_head, int64_t first, int64_t keys, int read,
                               const void *base, const int64_t *stride, const void **rows) {
  const fm_attention_mask *mask = &job->shape->mask;
  const int32_t *documents = mask->key_documents ? mask->key_documents + batch * mask->key_document_stride + first : NULL;
  for (int64_t i = 0; i < keys; i++)
    rows[i] = read && documents && documents[i] < 0 ? job->zeros
                                                    : FM(at_row)(job->shape->type, base, stride, batch, first + i, key_head);
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

/// Ends the running softmax of a tile: outputs and log_sum_exp.
FM_INLINE void FM(at_finish_tile)(const at_job *job, const at_tile *tile, int64_t batch, int64_t key_head, const float *output,
                                  const float *maximum, const float *sum, float *spare) {
  const fm_attention_shape *shape = job->shape;
  const void *rows[AT_TILE];
  float factor[AT_TILE];
  int64_t lanes = tile->heads * tile->queries;
  for (int64_t i = 0; i < lanes; i++) {
    factor[i] = sum[i] == 0 ? 0 : 1 / sum[i];
    if (job->log_sum_exp) {
      int64_t head = key_head * job->group + tile->head + i / tile->queries;
      job->log_sum_exp[(batch * shape->query_heads + head) * shape->query_length + tile->query + i % tile->queries] =
          sum[i] == 0 ? -INFINITY : maximum[i] * AT_LN2 + logf(sum[i]);
    }
  }
  FM(at_query_rows)(job, tile, batch, key_head, 0, job->output, shape->output_stride, rows);
  FM(at_write_lanes)(job, output, spare, job->value_pitch, lanes, shape->value_width, factor, rows);
}

/// Ends one range of keys: the tile's outputs when there is one range, else its statistics for at_merge_task.
FM_INLINE void FM(at_end_range)(const at_job *job, const at_tile *tile, int64_t index, int64_t batch, int64_t key_head,
                                int64_t range, const float *output, const float *maximum, const float *sum, float *spare) {
  if (job->ranges == 1) { FM(at_finish_tile)(job, tile, batch, key_head, output, maximum, sum, spare); return; }
  int64_t pair = batch * job->shape->key_value_heads + key_head;
  float *part = job->parts + ((pair * job->tiles + index) * job->ranges + range) * job->part_size;
  memcpy(part, maximum, 4 * AT_TILE);
  memcpy(part + AT_TILE, sum, 4 * AT_TILE);
  memcpy(part + 2 * AT_TILE, output, 4 * (size_t)(job->shape->value_width * AT_TILE));
}

/// One task of the forward: some tiles of queries against one range of keys.
FM_INLINE void FM(at_forward_body)(const at_job *job, const int half, const fm_type type, int64_t index) {
  const fm_attention_shape *shape = job->shape;
  int64_t range = index % job->ranges, unit = index / job->ranges;
  int64_t pairs = shape->batch * shape->key_value_heads, pair = unit % pairs;
  int64_t batch = pair / shape->key_value_heads, key_head = pair % shape->key_value_heads;
  // The last queries see most under a causal mask: they go first.
  int64_t first = (job->blocks - 1 - unit / pairs) * job->tiles_per_block;
  int64_t count = job->tiles - first < job->tiles_per_block ? job->tiles - first : job->tiles_per_block;
  int64_t first_tile = job->key_tiles * range / job->ranges, last_tile = job->key_tiles * (range + 1) / job->ranges;
  int64_t key_units = job->key_units, key_pitch = job->key_pitch, value_pitch = job->value_pitch;

  float *next = job->scratch + (int64_t)fm_thread_index() * job->scratch_size;
  float *spare = next; next += AT_TILE * (key_pitch > value_pitch ? key_pitch : value_pitch);
  float *keys = next; next += AT_TILE * key_pitch;
  float *values = next; next += AT_TILE * value_pitch;
  float *scores = next; next += AT_TILE * AT_TILE;
  float *rescale = next; next += AT_TILE;
  at_tile tiles[AT_BLOCK];
  at_lanes lanes[AT_BLOCK];
  at_extent extent[AT_BLOCK], all;
  float *queries[AT_BLOCK], *outputs[AT_BLOCK], *maximum[AT_BLOCK], *sum[AT_BLOCK];
  const void *rows[AT_TILE];
  int have_lanes[AT_BLOCK] = {0};
  for (int64_t t = 0; t < count; t++) {
    queries[t] = next; next += key_pitch * AT_TILE;
    outputs[t] = next; next += value_pitch * AT_TILE;
    maximum[t] = next; next += AT_TILE;
    sum[t] = next; next += AT_TILE;
    tiles[t] = at_tile_at(job, first + t);
    extent[t] = at_query_extent(job, batch, tiles[t].query, tiles[t].queries);
    all = t ? at_join(all, extent[t]) : extent[t];
    FM(at_query_rows)(job, &tiles[t], batch, key_head, 1, job->query, shape->query_stride, rows);
    FM(at_pack_rows)(half, type, spare, key_pitch, rows, tiles[t].heads * tiles[t].queries, AT_TILE, shape->key_width);
    FM(at_transpose)(queries[t], AT_TILE, spare, key_pitch, AT_TILE, key_units);
    memset(outputs[t], 0, 4 * (size_t)(value_pitch * AT_TILE));
    for (int i = 0; i < AT_TILE; i++) { maximum[t][i] = -INFINITY; sum[t][i] = 0; }
  }

  int64_t extent_row = job->extent_rows > 1 ? batch : 0;
  const at_extent *key_extents = job->key_extents + extent_row * job->key_tiles;
  const at_extent *key_groups = job->key_groups + extent_row * job->key_group_count;
  for (int64_t tile = first_tile; tile < last_tile; tile++) {
    if (tile % AT_GROUP == 0 || tile == first_tile)
      if (at_classify(job, &all, &key_groups[tile / AT_GROUP]) == AT_EMPTY) {
        tile = (tile / AT_GROUP + 1) * AT_GROUP - 1;
        continue;
      }
    if (at_classify(job, &all, &key_extents[tile]) == AT_EMPTY) continue;
    int64_t first_key = tile * AT_TILE;
    int64_t key_count = shape->key_length - first_key < AT_TILE ? shape->key_length - first_key : AT_TILE;
    int packed = 0;
    for (int64_t t = 0; t < count; t++) {
      at_class class = at_classify(job, &extent[t], &key_extents[tile]);
      if (class == AT_EMPTY) continue;
      if (!packed) {
        packed = 1;
        FM(at_key_rows)(job, batch, key_head, first_key, key_count, 1, job->key, shape->key_stride, rows);
        FM(at_pack_rows)(half, type, keys, key_pitch, rows, key_count, key_count, shape->key_width);
        FM(at_key_rows)(job, batch, key_head, first_key, key_count, 1, job->value, shape->value_stride, rows);
        FM(at_pack_summed)(half, type, spare, value_pitch, rows, key_count, key_count, shape->value_width);
        FM(at_transpose)(values, AT_TILE, spare, value_pitch, half ? (key_count + 1) / 2 : key_count, shape->value_width);
      }
      int64_t lane_count = tiles[t].heads * tiles[t].queries, vectors = (lane_count + FM_LANES - 1) / FM_LANES;
      FM(at_product)(half, AT_SCALED, key_count, vectors, key_units, keys, key_pitch, queries[t], AT_TILE, scores, AT_TILE,
                     at_score_scale(shape), NULL);
      FM(at_softcap)(shape->softcap, key_count, lane_count, scores);
      if (class == AT_PARTIAL) {
        if (!have_lanes[t]) { at_fill_lanes(job, batch, &tiles[t], &lanes[t]); have_lanes[t] = 1; }
        FM(at_hide)(job, &lanes[t], batch, first_key, key_count, scores);
      }
      FM(at_softmax)(half, key_count, lane_count, scores, maximum[t], sum[t], rescale);
      FM(at_product)(half, AT_RESCALE, shape->value_width, vectors, half ? (key_count + 1) / 2 : key_count, values, AT_TILE,
                     scores, AT_TILE, outputs[t], AT_TILE, 1, rescale);
    }
  }

  for (int64_t t = 0; t < count; t++)
    FM(at_end_range)(job, &tiles[t], first + t, batch, key_head, range, outputs[t], maximum[t], sum[t], spare);
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
    FM(at_softcap)(shape->softcap, count, lanes, scores);
    if (class == AT_PARTIAL) {
      if (!have_bounds) { at_fill_lanes(job, batch, &tile, &bounds); have_bounds = 1; }
      FM(at_hide)(job, &bounds, batch, first_key, count, scores);
    }
    FM(at_softmax)(0, count, lanes, scores, maximum, sum, rescale);
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

/// Merges the statistics (m, l, o) of one tile's key ranges, in order, and writes the outputs.
static void FM(at_merge_task)(void *context, int64_t index) {
  const at_job *job = context;
  const fm_attention_shape *shape = job->shape;
  int64_t pair = index / job->tiles, width = shape->value_width;
  at_tile tile = at_tile_at(job, index % job->tiles);
  float *parts = job->parts + index * job->ranges * job->part_size;
  float *spare = job->scratch + (int64_t)fm_thread_index() * job->scratch_size;
  for (int64_t i = 0; i < AT_TILE; i += FM_LANES) {
    vf top = FM(v_set)(-INFINITY), total = FM(v_set)(0);
    for (int64_t r = 0; r < job->ranges; r++) top = FM(v_max)(FM(v_load)(parts + r * job->part_size + i), top);
    vf safe = FM(v_select)(top == FM(v_set)(-INFINITY), FM(v_set)(0), top);
    for (int64_t r = 0; r < job->ranges; r++) {
      float *part = parts + r * job->part_size;
      vf factor = FM(at_exp2)(0, FM(v_load)(part + i) - safe);
      total += FM(v_load)(part + AT_TILE + i) * factor;
      for (int64_t w = 0; w < width; w++) {
        float *at = parts + 2 * AT_TILE + w * AT_TILE + i;
        vf old = r ? FM(v_load)(at) : FM(v_set)(0);
        FM(v_store)(at, FM(v_fma)(FM(v_load)(part + 2 * AT_TILE + w * AT_TILE + i), factor, old));
      }
    }
    FM(v_store)(parts + i, top);
    FM(v_store)(parts + AT_TILE + i, total);
  }
  FM(at_finish_tile)(job, &tile, pair / shape->key_value_heads, pair % shape->key_value_heads, parts + 2 * AT_TILE, parts,
                     parts + AT_TILE, spare);
}

static void FM(at_forward_task)(void *context, int64_t index) {
  const at_job *job = context;
  if (job->few) {
    if (job->shape->type == FM_BF16) FM(at_few_body)(job, FM_BF16, index);
    else FM(at_few_body)(job, FM_F32, index);
    return;
  }
#if FM_BF16_INSTRUCTIONS
  if (job->shape->type == FM_BF16) { FM(at_forward_body)(job, 1, FM_BF16, index); return; }
#endif
  if (job->shape->type == FM_BF16) FM(at_forward_body)(job, 0, FM_BF16, index);
  else FM(at_forward_body)(job, 0, FM_F32, index);
}

// ---- Backward ----

/// What a tile of queries brings to the backward, packed once per block of keys.
typedef struct { float *query_columns, *query_rows, *doutput_columns, *doutput_rows, *log_sum, *product; } FM(at_query_side);

FM_INLINE void FM(at_pack_query_side)(const at_job *job, const int half, const fm_type type, const at_tile *tile, int64_t batch,
                                      int64_t key_head, float *spare, const FM(at_query_side) *side) {
  const fm_attention_shape *shape = job->shape;
  const void *rows[AT_TILE], *output_rows[AT_TILE];
  int64_t lanes = tile->heads * tile->queries, value_width = shape->value_width;
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->query, shape->query_stride, rows);
  FM(at_pack_rows)(half, type, spare, job->key_pitch, rows, lanes, AT_TILE, shape->key_width);
  FM(at_transpose)(side->query_columns, AT_TILE, spare, job->key_pitch, AT_TILE, job->key_units);
  FM(at_pack_summed)(half, type, side->query_rows, job->key_row_pitch, rows, lanes, lanes, shape->key_width);
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->doutput, job->strides->doutput_stride, rows);
  FM(at_pack_rows)(half, type, spare, job->value_pitch, rows, lanes, AT_TILE, value_width);
  FM(at_transpose)(side->doutput_columns, AT_TILE, spare, job->value_pitch, AT_TILE, job->value_units);
  FM(at_pack_summed)(half, type, side->doutput_rows, job->value_pitch, rows, lanes, lanes, value_width);
  FM(at_query_rows)(job, tile, batch, key_head, 1, job->output, shape->output_stride, output_rows);
  for (int64_t i = 0; i < AT_TILE; i++) { side->log_sum[i] = INFINITY; side->product[i] = 0; }
  for (int64_t i = 0; i < lanes; i++) {
    int64_t head = key_head * job->group + tile->head + i / tile->queries;
    int64_t at = (batch * shape->query_heads + head) * shape->query_length + tile->query + i % tile->queries;
    // A query that saw nothing has probability 2^(s - infinity) = 0 everywhere.
    if (job->log_sum_exp[at] == -INFINITY) continue;
    side->log_sum[i] = job->log_sum_exp[at] * AT_LOG2E;
    vf total = FM(v_set)(0);
    int64_t w = 0;
    for (; w + FM_LANES <= value_width; w += FM_LANES)
      total = FM(v_fma)(FM(v_read)(type, output_rows[i], w), FM(v_read)(type, rows[i], w), total);
    if (w < value_width)
      total = FM(v_fma)(FM(v_read_n)(type, output_rows[i], w, value_width - w),
                        FM(v_read_n)(type, rows[i], w, value_width - w), total);
    side->product[i] = FM(v_sum)(total) - (job->dlog_sum_exp ? job->dlog_sum_exp[at] : 0);
  }
}

/// Writes gradient rows (rows, pitch) of keys or values.
FM_INLINE void FM(at_write_rows)(const fm_type type, const float *from, int64_t pitch, int64_t rows, int64_t width,
                                 const void *const *to) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < width; i += FM_LANES) {
      vf v = FM(v_load)(from + r * pitch + i);
      if (width - i >= FM_LANES) FM(v_write)(type, (void *)to[r], i, v);
      else FM(v_write_n)(type, (void *)to[r], i, v, width - i);
    }
}

/// Sums one tile's query gradients over the key ranges, in order, and writes them.
FM_INLINE void FM(at_finish_query)(const at_job *job, int64_t pair, int64_t index, float *const *parts, float *spare) {
  const fm_attention_shape *shape = job->shape;
  const void *rows[AT_TILE];
  at_tile tile = at_tile_at(job, index);
  int64_t size = job->key_row_pitch * AT_TILE;
  float *total = parts[0] + index * size;
  for (int64_t r = 1; r < job->ranges; r++)
    for (int64_t i = 0; i < size; i += FM_LANES)
      FM(v_store)(total + i, FM(v_load)(total + i) + FM(v_load)(parts[r] + index * size + i));
  FM(at_query_rows)(job, &tile, pair / shape->key_value_heads, pair % shape->key_value_heads, 0, job->dquery,
                    job->strides->dquery_stride, rows);
  FM(at_write_lanes)(job, total, spare, job->key_row_pitch, tile.heads * tile.queries, shape->key_width, NULL, rows);
}

/// One task of the backward: every key_block-th block of keys of one key head against all its queries.
FM_INLINE void FM(at_backward_body)(const at_job *job, const int half, const fm_type type, int64_t index) {
  const fm_attention_shape *shape = job->shape;
  int64_t range = index % job->ranges, pair = index / job->ranges;
  int64_t batch = pair / shape->key_value_heads, key_head = pair % shape->key_value_heads;
  int64_t key_pitch = job->key_pitch, value_pitch = job->value_pitch, key_row_pitch = job->key_row_pitch;
  int64_t key_width = shape->key_width, value_width = shape->value_width;
  int64_t widest = key_row_pitch > value_pitch ? key_row_pitch : value_pitch;

  float *next = job->scratch + (int64_t)fm_thread_index() * job->scratch_size;
  float *spare = next; next += AT_TILE * widest;
  float *scores = next; next += AT_TILE * AT_TILE;
  float *gradients = next; next += AT_TILE * AT_TILE;
  float *paired = next; next += AT_TILE * AT_TILE;
  FM(at_query_side) side;
  side.query_columns = next; next += key_pitch * AT_TILE;
  side.query_rows = next; next += key_row_pitch * AT_TILE;
  side.doutput_columns = next; next += value_pitch * AT_TILE;
  side.doutput_rows = next; next += value_pitch * AT_TILE;
  side.log_sum = next; next += AT_TILE;
  side.product = next; next += AT_TILE;
  float *keys[AT_BLOCK], *values[AT_BLOCK], *key_columns[AT_BLOCK], *dkeys[AT_BLOCK], *dvalues[AT_BLOCK];
  for (int64_t b = 0; b < job->key_block; b++) {
    keys[b] = next; next += AT_TILE * key_pitch;
    values[b] = next; next += AT_TILE * value_pitch;
    key_columns[b] = next; next += AT_TILE * key_row_pitch;
    dkeys[b] = next; next += AT_TILE * key_row_pitch;
    dvalues[b] = next; next += AT_TILE * value_pitch;
  }
  int64_t query_size = key_row_pitch * AT_TILE;
  float *dqueries = job->ranges == 1 ? job->parts + (int64_t)fm_thread_index() * job->part_size
                                     : job->parts + index * job->part_size;
  if (job->ranges == 1) memset(dqueries, 0, 4 * (size_t)(job->tiles * query_size));

  int64_t extent_row = job->extent_rows > 1 ? batch : 0;
  const at_extent *key_extents = job->key_extents + extent_row * job->key_tiles;
  const at_extent *query_extents = job->query_extents + extent_row * job->query_tiles;
  const at_extent *query_groups = job->query_groups + extent_row * job->query_group_count;
  const void *rows[AT_TILE];
  at_lanes lanes;
  int64_t blocks = (job->key_tiles + job->key_block - 1) / job->key_block;
  for (int64_t block = range; block < blocks; block += job->ranges) {
    int64_t first_tile = block * job->key_block;
    int64_t count = job->key_tiles - first_tile < job->key_block ? job->key_tiles - first_tile : job->key_block;
    int64_t key_count[AT_BLOCK];
    at_extent all;
    for (int64_t b = 0; b < count; b++) {
      int64_t first_key = (first_tile + b) * AT_TILE;
      int64_t n = shape->key_length - first_key < AT_TILE ? shape->key_length - first_key : AT_TILE;
      key_count[b] = n;
      all = b ? at_join(all, key_extents[first_tile + b]) : key_extents[first_tile];
      FM(at_key_rows)(job, batch, key_head, first_key, n, 1, job->key, shape->key_stride, rows);
      FM(at_pack_rows)(half, type, keys[b], key_pitch, rows, n, n, key_width);
      FM(at_pack_summed)(half, type, spare, key_row_pitch, rows, n, n, key_width);
      FM(at_transpose)(key_columns[b], AT_TILE, spare, key_row_pitch, half ? (n + 1) / 2 : n, key_width);
      FM(at_key_rows)(job, batch, key_head, first_key, n, 1, job->value, shape->value_stride, rows);
      FM(at_pack_rows)(half, type, values[b], value_pitch, rows, n, n, value_width);
      memset(dkeys[b], 0, 4 * (size_t)(AT_TILE * key_row_pitch));
      memset(dvalues[b], 0, 4 * (size_t)(AT_TILE * value_pitch));
    }
    for (int64_t head = 0; head < job->head_tiles; head++)
      for (int64_t q = 0; q < job->query_tiles; q++) {
        if (q % AT_GROUP == 0 && at_classify(job, &query_groups[q / AT_GROUP], &all) == AT_EMPTY) {
          q += AT_GROUP - 1;
          continue;
        }
        if (at_classify(job, &query_extents[q], &all) == AT_EMPTY) continue;
        int64_t tile_index = head * job->query_tiles + q;
        at_tile tile = at_tile_at(job, tile_index);
        int64_t lane_count = tile.heads * tile.queries, vectors = (lane_count + FM_LANES - 1) / FM_LANES;
        int64_t query_depth = half ? (lane_count + 1) / 2 : lane_count;
        int packed = 0, have_lanes = 0;
        for (int64_t b = 0; b < count; b++) {
          at_class class = at_classify(job, &query_extents[q], &key_extents[first_tile + b]);
          if (class == AT_EMPTY) continue;
          if (!packed) { FM(at_pack_query_side)(job, half, type, &tile, batch, key_head, spare, &side); packed = 1; }
          int64_t n = key_count[b];
          FM(at_product)(half, AT_SCALED, n, vectors, job->key_units, keys[b], key_pitch, side.query_columns, AT_TILE, scores,
                         AT_TILE, at_score_scale(shape), NULL);
          FM(at_softcap)(shape->softcap, n, lane_count, scores);
          if (class == AT_PARTIAL) {
            if (!have_lanes) { at_fill_lanes(job, batch, &tile, &lanes); have_lanes = 1; }
            FM(at_hide)(job, &lanes, batch, (first_tile + b) * AT_TILE, n, scores);
          }
          FM(at_product)(half, AT_SCALED, n, vectors, job->value_units, values[b], value_pitch, side.doutput_columns, AT_TILE,
                         gradients, AT_TILE, 1, NULL);
          FM(at_score_gradient)(half, n, lane_count, scores, gradients, paired, side.log_sum, side.product, shape->scale,
                                shape->softcap);
          FM(at_product)(half, AT_ADD, n, value_pitch / FM_LANES, query_depth, scores, AT_TILE, side.doutput_rows, value_pitch,
                         dvalues[b], value_pitch, 1, NULL);
          FM(at_product)(half, AT_ADD, n, key_row_pitch / FM_LANES, query_depth, gradients, AT_TILE, side.query_rows,
                         key_row_pitch, dkeys[b], key_row_pitch, 1, NULL);
          FM(at_product)(half, AT_ADD, key_width, vectors, half ? (n + 1) / 2 : n, key_columns[b], AT_TILE,
                         half ? paired : gradients, AT_TILE, dqueries + tile_index * query_size, AT_TILE, 1, NULL);
        }
      }
    for (int64_t b = 0; b < count; b++) {
      int64_t first_key = (first_tile + b) * AT_TILE;
      FM(at_key_rows)(job, batch, key_head, first_key, key_count[b], 0, job->dkey, job->strides->dkey_stride, rows);
      FM(at_write_rows)(type, dkeys[b], key_row_pitch, key_count[b], key_width, rows);
      FM(at_key_rows)(job, batch, key_head, first_key, key_count[b], 0, job->dvalue, job->strides->dvalue_stride, rows);
      FM(at_write_rows)(type, dvalues[b], value_pitch, key_count[b], value_width, rows);
    }
  }
  if (job->ranges == 1)
    for (int64_t t = 0; t < job->tiles; t++) FM(at_finish_query)(job, pair, t, &dqueries, spare);
}

static void FM(at_backward_task)(void *context, int64_t index) {
  const at_job *job = context;
#if FM_BF16_INSTRUCTIONS
  if (job->shape->type == FM_BF16) { FM(at_backward_body)(job, 1, FM_BF16, index); return; }
#endif
  if (job->shape->type == FM_BF16) FM(at_backward_body)(job, 0, FM_BF16, index);
  else FM(at_backward_body)(job, 0, FM_F32, index);
}

static void FM(at_query_sum_task)(void *context, int64_t index) {
  const at_job *job = context;
  float *parts[AT_RANGES];
  int64_t pair = index / job->tiles;
  for (int64_t r = 0; r < job->ranges; r++) parts[r] = job->parts + (pair * job->ranges + r) * job->part_size;
  FM(at_finish_query)(job, pair, index % job->tiles, parts, job->scratch + (int64_t)fm_thread_index() * job->scratch_size);
}

#else
#include "support/attention_plan.h"
#define FM_FILE "../attention.c"
#include "support/each_variant.h"
#include <stdlib.h>

static float *at_allocate(int64_t floats) {
  void *p = NULL;
  return posix_memalign(&p, 64, (size_t)(floats > 0 ? floats : 1) * sizeof(float)) ? NULL : p;
}

/// Zeroed memory for partial results, straight from the system because it can be large.
static int at_map_parts(at_job *job, int64_t count) {
  job->parts_bytes = count * job->part_size * (int64_t)sizeof(float);
  job->parts = job->parts_bytes > 0 ? fm_map_memory((size_t)job->parts_bytes) : NULL;
  return job->parts_bytes <= 0 || job->parts;
}

static void at_free(at_job *job) {
  free(job->scratch);
  if (job->parts) fm_unmap_memory(job->parts, (size_t)job->parts_bytes);
  free(job->key_extents);
}

int fm_attention(const fm_attention_shape *shape, const void *query, const void *key, const void *value, void *output,
                 float *log_sum_exp) {
  if (shape->batch <= 0 || shape->query_heads <= 0 || shape->query_length <= 0) return 0;
  at_job job = {.shape = shape, .query = query, .key = key, .value = value, .output = output, .log_sum_exp = log_sum_exp};
  if (!at_plan(&job, fm_path() == FM_AVX512_BF16)) return -1;
  int64_t pairs = shape->batch * shape->key_value_heads;
  job.few = job.group * shape->query_length <= AT_FEW;
  job.tiles_per_block = AT_BLOCK;
  while (job.tiles_per_block > 1 && pairs * ((job.tiles + job.tiles_per_block - 1) / job.tiles_per_block) < AT_TASKS)
    job.tiles_per_block /= 2;
  job.blocks = (job.tiles + job.tiles_per_block - 1) / job.tiles_per_block;
  // With little to divide by queries and heads, long keys are divided too.
  job.ranges = at_clamp((AT_RANGES + pairs * job.blocks - 1) / (pairs * job.blocks), 1, AT_RANGES);
  if (job.ranges > job.key_tiles / 8) job.ranges = job.key_tiles / 8 > 1 ? job.key_tiles / 8 : 1;
  int64_t widest = job.key_row_pitch > job.value_pitch ? job.key_row_pitch : job.value_pitch;
  job.scratch_size = AT_TILE * (widest + job.key_pitch + job.value_pitch + AT_TILE + 1) +
                     job.tiles_per_block * AT_TILE * (job.key_pitch + job.value_pitch + 2);
  if (job.few)
    job.scratch_size = AT_TILE * (widest + job.value_pitch + AT_TILE + 3) + AT_FEW * (job.key_row_pitch + job.value_pitch);
  job.part_size = AT_TILE * (job.value_pitch + 2);
  job.scratch = at_allocate(job.scratch_size * fm_threads());
  int failed = !job.scratch || (job.ranges > 1 && !at_map_parts(&job, pairs * job.tiles * job.ranges));
  if (!failed) {
    fm_parallel_dynamic(pairs * job.blocks * job.ranges, FM_CALL(at_forward_task), &job);
    if (job.ranges > 1) fm_parallel_dynamic(pairs * job.tiles, FM_CALL(at_merge_task), &job);
  }
  at_free(&job);
  return failed ? -1 : 0;
}

int fm_attention_backward(const fm_attention_shape *shape, const fm_attention_gradient_strides *strides, const void *query,
                          const void *key, const void *value, const void *output, const float *log_sum_exp,
                          const void *doutput, const float *dlog_sum_exp, void *dquery, void *dkey, void *dvalue) {
  if (shape->batch <= 0 || shape->query_heads <= 0) return 0;
  at_job job = {.shape = shape, .strides = strides, .query = query, .key = key, .value = value, .output = (void *)output,
                .log_sum_exp = (float *)log_sum_exp, .doutput = doutput, .dlog_sum_exp = dlog_sum_exp, .dquery = dquery,
                .dkey = dkey, .dvalue = dvalue};
  if (!at_plan(&job, fm_path() == FM_AVX512_BF16)) return -1;
  int64_t pairs = shape->batch * shape->key_value_heads, width = job.key_row_pitch + job.value_pitch;
  job.key_block = at_clamp(512 / width, 1, AT_BLOCK);
  int64_t blocks = (job.key_tiles + job.key_block - 1) / job.key_block;
  job.part_size = job.tiles * job.key_row_pitch * AT_TILE;
  // Each range keeps its own f32 gradients of the queries: very long ones get fewer ranges.
  int64_t most = AT_PARTS / (pairs * (job.part_size > 0 ? job.part_size : 1));
  job.ranges = at_clamp((AT_RANGES + pairs - 1) / pairs, 1, at_clamp(most, pairs == 1 ? 2 : 1, AT_RANGES));
  job.ranges = at_clamp(job.ranges, 1, blocks > 1 ? blocks : 1);
  int64_t widest = job.key_row_pitch > job.value_pitch ? job.key_row_pitch : job.value_pitch;
  job.scratch_size = AT_TILE * (widest + 3 * AT_TILE + job.key_pitch + job.key_row_pitch + 2 * job.value_pitch + 2) +
                     job.key_block * AT_TILE * (job.key_pitch + 2 * job.key_row_pitch + 2 * job.value_pitch);
  job.scratch = at_allocate(job.scratch_size * fm_threads());
  int failed = !job.scratch || !at_map_parts(&job, job.ranges > 1 ? pairs * job.ranges : fm_threads());
  if (!failed) {
    fm_parallel_dynamic(pairs * job.ranges, FM_CALL(at_backward_task), &job);
    if (job.ranges > 1) fm_parallel_dynamic(pairs * job.tiles, FM_CALL(at_query_sum_task), &job);
  }
  at_free(&job);
  return failed ? -1 : 0;
}
#endif
