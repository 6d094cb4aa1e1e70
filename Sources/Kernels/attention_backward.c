// The backward of attention in tiles (Dao, FlashAttention-2, 2023): a task owns some keys of one key head and walks over tiles of
// queries, whose probabilities it computes again from log_sum_exp.
#include "support/attention_plan.h"
#ifdef FM_VARIANT
#include "support/attention_product.h"
#include "support/attention_pack.h"
#include "support/attention_softmax.h"
#include "support/attention_gradient.h"

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
  float *sides = next; next += job->side_size * job->sides;
  int64_t *holds = (int64_t *)next; next += (2 * job->sides + 15) / 16 * 16;  // the tile whose side is where
  for (int64_t i = 0; i < job->sides; i++) holds[i] = -1;
  float *log_sums = next; next += job->tiles * AT_TILE;
  float *products = next; next += job->tiles * AT_TILE;
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

  for (int64_t t = 0; t < job->tiles; t++) {
    at_tile tile = at_tile_at(job, t);
    FM(at_read_sums)(job, type, &tile, batch, key_head, log_sums + t * AT_TILE, products + t * AT_TILE);
  }
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
        int have_lanes = 0;
        FM(at_query_side) side = FM(at_query_side_in)(job, sides + tile_index % job->sides * job->side_size);
        // The next block is packed at once: its tiles are asked for here, one with each tile of queries.
        if (ahead < ahead_end) {
          FM(at_fetch_rows)(job, batch, ahead * AT_TILE, length, key_head, key_width, job->key, shape->key_stride);
          FM(at_fetch_rows)(job, batch, ahead++ * AT_TILE, length, key_head, value_width, job->value, shape->value_stride);
        }
        for (int64_t b = 0; b < count; b++) {
          at_class class = at_classify(job, &query_extents[q], &key_extents[first_tile + b]);
          if (class == AT_EMPTY) continue;
          if (holds[tile_index % job->sides] != tile_index) {
            FM(at_pack_query_side)(job, half, type, &tile, batch, key_head, spare, &side);
            holds[tile_index % job->sides] = tile_index;
          }
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
          FM(at_score_gradient)(half, &steps, scores, gradients, paired, log_sums + tile_index * AT_TILE,
                                products + tile_index * AT_TILE, shape->scale, shape->softcap);
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
  int64_t deep = job.half ? AT_TILE / 2 : AT_TILE;
  job.value_unit_pitch = (job.value_units + 15) / 16 * 16;
  job.side_size = AT_TILE * (job.key_pitch + job.value_unit_pitch) + deep * (job.key_row_pitch + job.value_pitch);
  job.sides = at_clamp(AT_SIDES / job.side_size, 1, job.tiles > 0 ? job.tiles : 1);
  job.scratch_size = job.sides * job.side_size + (2 * job.sides + 15) / 16 * 16 + AT_TILE * (widest + 3 * AT_TILE + 2 * job.tiles) +
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
