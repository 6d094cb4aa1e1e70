// Exact attention in tiles (Dao, FlashAttention-2, 2023; the running softmax after Milakov and Gimelshein, 2018): a task owns
// some queries of one key head and walks over tiles of keys with a running maximum and sum. Work is divided by shape alone,
// never by the number of threads.
#include "support/attention_plan.h"
#ifdef FM_VARIANT
#include "support/attention_product.h"
#include "support/attention_pack.h"
#include "support/attention_softmax.h"
#include "support/attention_few.h"

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
        int64_t following = first_key + AT_TILE, length = shape->key_length;
        FM(at_fetch_rows)(job, batch, following, length, key_head, shape->key_width, job->key, shape->key_stride);
        FM(at_fetch_rows)(job, batch, following, length, key_head, shape->value_width, job->value, shape->value_stride);
      }
      at_steps steps = at_one_step(key_count, tiles[t].heads * tiles[t].queries);
      if (class == AT_PARTIAL) {
        if (!have_lanes[t]) { at_fill_lanes(job, batch, &tiles[t], &lanes[t]); have_lanes[t] = 1; }
        steps = at_find_steps(job, &lanes[t], batch, first_key, key_count);
      }
      FM(at_scores)(job, half, &steps, class == AT_PARTIAL ? &lanes[t] : NULL, batch, first_key, keys, queries[t], scores);
      FM(at_softmax)(half, &steps, scores, maximum[t], sum[t], rescale);
      FM(at_product_over_keys)(job, half, AT_RESCALE, &steps, shape->value_width, values, scores, outputs[t], rescale);
    }
  }

  for (int64_t t = 0; t < count; t++)
    FM(at_end_range)(job, &tiles[t], first + t, batch, key_head, range, outputs[t], maximum[t], sum[t], spare);
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
      vf factor = FM(v_exp2)(0, FM(v_load)(part + i) - safe);
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
#if AT_PAIRS
  if (job->half) {
    FM(at_forward_body)(job, 1, FM_BF16, index);
    if (job->tile_unit) job->tile_unit->release();
    return;
  }
#endif
  if (job->shape->type == FM_BF16) FM(at_forward_body)(job, 0, FM_BF16, index);
  else FM(at_forward_body)(job, 0, FM_F32, index);
}

#else
#define FM_FILE "../attention.c"
#include "support/each_variant.h"

int fm_attention(const fm_attention_shape *shape, const void *query, const void *key, const void *value, void *output,
                 float *log_sum_exp) {
  if (shape->batch <= 0 || shape->query_heads <= 0 || shape->query_length <= 0) return 0;
  at_job job = {.shape = shape, .query = query, .key = key, .value = value, .output = output, .log_sum_exp = log_sum_exp};
  if (!at_plan(&job)) return -1;
  int64_t pairs = shape->batch * shape->key_value_heads;
  job.few = job.group * shape->query_length <= AT_FEW;
  // Queries and outputs of a block stay in the second cache.
  job.tiles_per_block = at_clamp(1024 / (job.key_row_pitch + job.value_pitch), 4, AT_BLOCK);
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
#endif
