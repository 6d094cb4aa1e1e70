// The backward of attention in tiles (Dao, FlashAttention-2, 2023): a task owns some keys of one key head and walks over tiles of
// queries, whose probabilities it computes again from log_sum_exp.
#include "support/attention_plan.h"
#ifdef FM_VARIANT
#include "support/attention_product.h"
#include "support/attention_pack.h"
#include "support/attention_softmax.h"

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
  // The tile after this one; where several heads share a tile there is none.
  int64_t next = tile->query + tile->queries, head = key_head * job->group + tile->head, length = shape->query_length;
  FM(at_fetch_rows)(job, batch, next, length, head, shape->key_width, job->query, shape->query_stride);
  FM(at_fetch_rows)(job, batch, next, length, head, value_width, job->doutput, job->strides->doutput_stride);
  FM(at_fetch_rows)(job, batch, next, length, head, value_width, job->output, shape->output_stride);
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
    int64_t ahead = (block + job->ranges) * job->key_block, ahead_end = ahead + job->key_block, length = shape->key_length;
    for (int64_t head = 0; head < job->head_tiles; head++)
      for (int64_t q = 0; q < job->query_tiles; q++) {
        if (q % AT_GROUP == 0 && at_classify(job, &query_groups[q / AT_GROUP], &all) == AT_EMPTY) {
          q += AT_GROUP - 1;
          continue;
        }
        if (at_classify(job, &query_extents[q], &all) == AT_EMPTY) continue;
        int64_t tile_index = head * job->query_tiles + q;
        at_tile tile = at_tile_at(job, tile_index);
        int packed = 0, have_lanes = 0;
        // The next block is packed at once: its tiles are asked for here, one with each tile of queries.
        if (ahead < ahead_end) {
          FM(at_fetch_rows)(job, batch, ahead * AT_TILE, length, key_head, key_width, job->key, shape->key_stride);
          FM(at_fetch_rows)(job, batch, ahead++ * AT_TILE, length, key_head, value_width, job->value, shape->value_stride);
        }
        for (int64_t b = 0; b < count; b++) {
          at_class class = at_classify(job, &query_extents[q], &key_extents[first_tile + b]);
          if (class == AT_EMPTY) continue;
          if (!packed) { FM(at_pack_query_side)(job, half, type, &tile, batch, key_head, spare, &side); packed = 1; }
          int64_t first_key = (first_tile + b) * AT_TILE;
          at_steps steps = at_one_step(key_count[b], tile.heads * tile.queries);
          if (class == AT_PARTIAL) {
            if (!have_lanes) { at_fill_lanes(job, batch, &tile, &lanes); have_lanes = 1; }
            steps = at_find_steps(job, &lanes, batch, first_key, key_count[b]);
          }
          FM(at_scores)(job, half, &steps, class == AT_PARTIAL ? &lanes : NULL, batch, first_key, keys[b], side.query_columns,
                        scores);
          FM(at_product_to_lanes)(job, half, &steps, job->value_units, values[b], value_pitch, side.doutput_columns, gradients,
                                  1);
          FM(at_score_gradient)(half, &steps, scores, gradients, paired, side.log_sum, side.product, shape->scale,
                                shape->softcap);
          FM(at_product_over_lanes)(job, half, &steps, scores, side.doutput_rows, value_pitch, dvalues[b]);
          FM(at_product_over_lanes)(job, half, &steps, gradients, side.query_rows, key_row_pitch, dkeys[b]);
          FM(at_product_over_keys)(job, half, AT_ADD, &steps, key_width, key_columns[b], half ? paired : gradients,
                                   dqueries + tile_index * query_size, NULL);
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
#if AT_PAIRS
  if (job->half) {
    FM(at_backward_body)(job, 1, FM_BF16, index);
    if (job->tile_unit) job->tile_unit->release();
    return;
  }
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
#define FM_FILE "../attention_backward.c"
#include "support/each_variant.h"

int fm_attention_backward(const fm_attention_shape *shape, const fm_attention_gradient_strides *strides, const void *query,
                          const void *key, const void *value, const void *output, const float *log_sum_exp,
                          const void *doutput, const float *dlog_sum_exp, void *dquery, void *dkey, void *dvalue) {
  if (shape->batch <= 0 || shape->query_heads <= 0) return 0;
  at_job job = {.shape = shape, .strides = strides, .query = query, .key = key, .value = value, .output = (void *)output,
                .log_sum_exp = (float *)log_sum_exp, .doutput = doutput, .dlog_sum_exp = dlog_sum_exp, .dquery = dquery,
                .dkey = dkey, .dvalue = dvalue};
  if (!at_plan(&job)) return -1;
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
