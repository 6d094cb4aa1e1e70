// How attention divides its work, and which tiles of the score matrix hold anything: plain code, compiled once.
#ifndef FERMATA_ATTENTION_PLAN_H
#define FERMATA_ATTENTION_PLAN_H
#include "fermata_attention.h"
#include "fermata_tiles.h"
#include <stdlib.h>
#include <string.h>

#define AT_LOG2E 1.4426950408889634f
#define AT_LN2 0.6931471805599453f

enum {
  AT_TILE = 64,    // queries and keys in a tile
  AT_BLOCK = 8,    // most tiles of queries (forward) or keys (backward) that share the packing of the other side
  AT_GROUP = 64,   // tiles whose joint extent is looked at first, so that far tiles are skipped by the group
  AT_STEPS = 4,    // most steps down a tile's diagonal
  AT_FEW = 8,      // up to this many queries of one key head skip packing and read keys and values where they lie
  AT_TASKS = 16,   // fewer tasks than this are divided further
  AT_SIDES = 1 << 21,  // floats of packed queries that a thread keeps in the backward
  AT_PARTS = 1 << 26,  // floats that partial query gradients of the ranges may take
  AT_RANGES = 8,   // most ranges that the keys of one task are divided into
};

typedef enum { AT_SCALED, AT_ADD, AT_RESCALE } at_mode;      // c = scale a b; c += a b; c = c lane_scale + a b
typedef enum { AT_EMPTY, AT_PARTIAL, AT_FULL } at_class;

/// Least and greatest position and document of a stretch of queries or keys.
typedef struct { int32_t low, high, document_low, document_high; } at_extent;

/// Up to AT_TILE lanes of queries that read one key head: `queries` neighbours of each of `heads` heads.
typedef struct { int64_t head, heads, query, queries; } at_tile;

/// The mask's bounds on key positions, lane by lane, all inclusive: upper from causality, low and high from the window.
typedef struct {
  int64_t count, query[AT_TILE];
  int32_t upper[AT_TILE], low[AT_TILE], high[AT_TILE], document[AT_TILE];
} at_lanes;

/// Which scores of a tile are computed at all, in steps down the causal diagonal: step i has the keys from key[i] up to
/// key[i + 1] and the lanes from lane[i] on. Both grow, and the first of both are 0, so lanes from lane[i] up to lane[i + 1] need
/// the keys up to key[i + 1]. What lies left of the steps is hidden, and neither written nor read.
typedef struct { int64_t count, key[AT_STEPS + 1], lane[AT_STEPS + 1]; } at_steps;

typedef struct {
  const fm_attention_shape *shape;
  const fm_attention_gradient_strides *strides;
  const void *query, *key, *value, *doutput;
  void *output, *dquery, *dkey, *dvalue;
  float *log_sum_exp;
  const float *dlog_sum_exp;
  int32_t last_sink, last_prefix;  // the last position that counts as sink, as prefix; INT32_MIN for none
  int64_t group;                   // query heads per key head
  int64_t heads_per_tile, head_tiles, query_tiles, tiles, key_tiles;
  int64_t key_units, value_units;  // a row's width in 32-bit units
  int64_t key_pitch, value_pitch, key_row_pitch;  // packed rows: units of a key row; elements of a value and of a key row
  int64_t tiles_per_block, blocks, key_block, ranges;
  at_extent *key_extents, *key_groups, *query_extents, *query_groups;
  int64_t extent_rows, key_group_count, query_group_count;
  int half;                 // whether bf16 is multiplied in pairs
  const fm_tiles *tile_unit;  // what multiplies them, where the path has tile instructions
  int few;            // whether queries are so few that keys and values are read where they lie
  const void *zeros;  // a row of them, for padding
  float *scratch, *parts;
  int64_t parts_bytes;
  int64_t scratch_size, part_size;
  int64_t value_unit_pitch, side_size, sides;  // backward: of a tile of queries, packed, and how many of them are kept
} at_job;

static inline int64_t at_clamp(int64_t x, int64_t low, int64_t high) {
  if (x > high) x = high;
  return x < low ? low : x;
}
static inline int32_t at_clamp_position(int64_t x) { return (int32_t)at_clamp(x, INT32_MIN, INT32_MAX); }

/// What q k^T is multiplied by: into powers of two, or where scores are capped into the argument of tanh.
static inline float at_score_scale(const fm_attention_shape *s) {
  return s->softcap > 0 ? s->scale / s->softcap : s->scale * AT_LOG2E;
}

static inline at_tile at_tile_at(const at_job *job, int64_t index) {
  at_tile tile;
  tile.head = index / job->query_tiles * job->heads_per_tile;
  tile.heads = at_clamp(job->group - tile.head, 1, job->heads_per_tile);
  tile.query = index % job->query_tiles * AT_TILE;
  tile.queries = at_clamp(job->shape->query_length - tile.query, 0, AT_TILE);
  return tile;
}

static inline at_extent at_join(at_extent a, at_extent b) {
  if (b.low < a.low) a.low = b.low;
  if (b.high > a.high) a.high = b.high;
  if (b.document_low < a.document_low) a.document_low = b.document_low;
  if (b.document_high > a.document_high) a.document_high = b.document_high;
  return a;
}

/// Without an array, entry i stands at position i + offset; without documents all are document 0.
static inline at_extent at_measure(const int32_t *positions, const int32_t *documents, int64_t first, int64_t count, int64_t offset) {
  at_extent e = {(int32_t)(first + offset), (int32_t)(first + offset + count - 1), 0, 0};
  if (positions) {
    e.low = e.high = positions[first];
    for (int64_t i = first; i < first + count; i++) {
      e.low = positions[i] < e.low ? positions[i] : e.low;
      e.high = positions[i] > e.high ? positions[i] : e.high;
    }
  }
  if (documents) {
    e.document_low = e.document_high = documents[first];
    for (int64_t i = first; i < first + count; i++) {
      e.document_low = documents[i] < e.document_low ? documents[i] : e.document_low;
      e.document_high = documents[i] > e.document_high ? documents[i] : e.document_high;
    }
  }
  return e;
}

static inline at_extent at_query_extent(const at_job *job, int64_t batch, int64_t first, int64_t count) {
  const fm_attention_mask *m = &job->shape->mask;
  return at_measure(m->query_positions ? m->query_positions + batch * m->query_position_stride : NULL,
                    m->query_documents ? m->query_documents + batch * m->query_document_stride : NULL, first, count,
                    job->shape->key_length - job->shape->query_length);
}

static inline at_extent at_key_extent(const at_job *job, int64_t batch, int64_t first, int64_t count) {
  const fm_attention_mask *m = &job->shape->mask;
  return at_measure(m->key_positions ? m->key_positions + batch * m->key_position_stride : NULL,
                    m->key_documents ? m->key_documents + batch * m->key_document_stride : NULL, first, count, 0);
}

/// Whether queries within one extent see none, some or all of the keys within another.
static inline at_class at_classify(const at_job *job, const at_extent *q, const at_extent *k) {
  const fm_attention_mask *m = &job->shape->mask;
  int full = 1;
  if (m->query_documents || m->key_documents) {
    if (q->document_high < k->document_low || k->document_high < q->document_low) return AT_EMPTY;
    if (q->document_high < 0 || k->document_high < 0) return AT_EMPTY;
    full = q->document_low == q->document_high && k->document_low == k->document_high && q->document_low == k->document_low;
  }
  int64_t window = m->window > 0 ? m->window : 0;
  if (k->low > job->last_prefix) {
    if (m->causal && k->low > q->high) return AT_EMPTY;
    if (window && k->low > job->last_sink) {
      if (k->high <= q->low - window) return AT_EMPTY;
      if (!m->causal && k->low >= q->high + window) return AT_EMPTY;
    }
  }
  if (m->visible) return AT_PARTIAL;
  if (k->high > job->last_prefix) {
    if (m->causal && k->high > q->low) full = 0;
    if (window && k->high > job->last_sink) {
      if (k->low <= q->high - window) full = 0;
      if (!m->causal && k->high >= q->low + window) full = 0;
    }
  }
  return full ? AT_FULL : AT_PARTIAL;
}

static inline void at_fill_lanes(const at_job *job, int64_t batch, const at_tile *tile, at_lanes *lanes) {
  const fm_attention_mask *m = &job->shape->mask;
  memset(lanes, 0, sizeof *lanes);
  lanes->count = tile->heads * tile->queries;
  for (int64_t i = 0; i < lanes->count; i++) {
    int64_t query = tile->query + i % tile->queries;
    int64_t position = m->query_positions ? m->query_positions[batch * m->query_position_stride + query]
                                          : query + job->shape->key_length - job->shape->query_length;
    lanes->query[i] = query;
    lanes->upper[i] = m->causal ? at_clamp_position(position) : INT32_MAX;
    lanes->low[i] = m->window > 0 ? at_clamp_position(position - m->window + 1) : INT32_MIN;
    lanes->high[i] = m->window > 0 && !m->causal ? at_clamp_position(position + m->window - 1) : INT32_MAX;
    int32_t document = m->query_documents ? m->query_documents[batch * m->query_document_stride + query] : 0;
    lanes->document[i] = document < 0 ? -1 : document;
  }
}

static inline at_steps at_one_step(int64_t keys, int64_t lanes) { return (at_steps){1, {0, keys}, {0, lanes}}; }

/// The steps of a tile whose lanes are filled. Only causality counts; what else the mask hides is computed and then hidden.
static inline at_steps at_find_steps(const at_job *job, const at_lanes *lanes, int64_t batch, int64_t first_key, int64_t keys) {
  const fm_attention_mask *m = &job->shape->mask;
  const int32_t *positions = m->key_positions ? m->key_positions + batch * m->key_position_stride : NULL;
  // Tile instructions take 32 of both at once as well as they can, vectors 16.
  int64_t size = job->tile_unit ? 2 * AT_TILE / AT_STEPS : AT_TILE / AT_STEPS, first[AT_STEPS] = {0};
  int32_t least = INT32_MAX;
  // From the last keys up: lanes are left out that see none of these keys and none of those below.
  for (int64_t i = (keys - 1) / size; i > 0; i--) {
    for (int64_t k = i * size; k < keys && k < (i + 1) * size; k++) {
      int32_t position = positions ? positions[first_key + k] : (int32_t)(first_key + k);
      if (position < least) least = position;
    }
    int64_t hidden = 0;
    if (m->causal && least > job->last_prefix)
      while (hidden < lanes->count && lanes->upper[hidden] < least) hidden++;
    first[i] = hidden < lanes->count ? hidden / size * size : (lanes->count - 1) / size * size;
  }
  at_steps steps = at_one_step(keys, lanes->count);
  for (int64_t i = 1; i * size < keys; i++) {
    if (first[i] == steps.lane[steps.count - 1]) continue;
    steps.key[steps.count] = i * size;
    steps.lane[steps.count++] = first[i];
    steps.key[steps.count] = keys;
    steps.lane[steps.count] = lanes->count;
  }
  return steps;
}

/// Sizes, strides of packed tiles, and the extents of all tiles and groups of tiles. Returns 0 when memory could not be had.
static inline int at_plan(at_job *job) {
  const fm_attention_shape *s = job->shape;
  const fm_attention_mask *m = &s->mask;
  job->tile_unit = s->type == FM_BF16 ? fm_tiles_in_use() : NULL;
  int half = job->half = s->type == FM_BF16 && (job->tile_unit || fm_variant() == FM_AVX512_BF16);
  job->last_sink = m->sinks > 0 ? at_clamp_position(m->sinks - 1) : INT32_MIN;
  job->last_prefix = m->prefix > 0 ? at_clamp_position(m->prefix - 1) : INT32_MIN;
  job->group = s->query_heads / s->key_value_heads;
  job->query_tiles = (s->query_length + AT_TILE - 1) / AT_TILE;
  // Short pieces fill a tile's lanes with several heads.
  job->heads_per_tile = s->query_length > 0 ? at_clamp(AT_TILE / s->query_length, 1, job->group) : 1;
  job->head_tiles = (job->group + job->heads_per_tile - 1) / job->heads_per_tile;
  job->tiles = job->query_tiles * job->head_tiles;
  job->key_tiles = (s->key_length + AT_TILE - 1) / AT_TILE;
  job->key_units = half ? (s->key_width + 1) / 2 : s->key_width;
  job->value_units = half ? (s->value_width + 1) / 2 : s->value_width;
  job->key_pitch = (job->key_units + 15) / 16 * 16;
  job->key_row_pitch = (s->key_width + 15) / 16 * 16;
  job->value_pitch = (s->value_width + 15) / 16 * 16;
  int own = (m->query_positions && m->query_position_stride) || (m->key_positions && m->key_position_stride) ||
            (m->query_documents && m->query_document_stride) || (m->key_documents && m->key_document_stride);
  job->extent_rows = own ? s->batch : 1;
  job->key_group_count = (job->key_tiles + AT_GROUP - 1) / AT_GROUP;
  job->query_group_count = (job->query_tiles + AT_GROUP - 1) / AT_GROUP;
  int64_t row = job->key_tiles + job->key_group_count + job->query_tiles + job->query_group_count;
  int64_t widest = s->key_width > s->value_width ? s->key_width : s->value_width;
  job->key_extents = calloc(1, (size_t)(job->extent_rows * row) * sizeof(at_extent) + (size_t)widest * sizeof(float) + 64);
  if (!job->key_extents) return 0;
  job->zeros = job->key_extents + job->extent_rows * row;
  job->key_groups = job->key_extents + job->extent_rows * job->key_tiles;
  job->query_extents = job->key_groups + job->extent_rows * job->key_group_count;
  job->query_groups = job->query_extents + job->extent_rows * job->query_tiles;
  for (int64_t b = 0; b < job->extent_rows; b++) {
    for (int64_t t = 0; t < job->key_tiles; t++) {
      at_extent e = at_key_extent(job, b, t * AT_TILE, at_clamp(s->key_length - t * AT_TILE, 0, AT_TILE));
      at_extent *group = &job->key_groups[b * job->key_group_count + t / AT_GROUP];
      job->key_extents[b * job->key_tiles + t] = e;
      *group = t % AT_GROUP ? at_join(*group, e) : e;
    }
    for (int64_t t = 0; t < job->query_tiles; t++) {
      at_extent e = at_query_extent(job, b, t * AT_TILE, at_clamp(s->query_length - t * AT_TILE, 0, AT_TILE));
      at_extent *group = &job->query_groups[b * job->query_group_count + t / AT_GROUP];
      job->query_extents[b * job->query_tiles + t] = e;
      *group = t % AT_GROUP ? at_join(*group, e) : e;
    }
  }
  return 1;
}

static inline float *at_allocate(int64_t floats) {
  void *p = NULL;
  return posix_memalign(&p, 64, (size_t)(floats > 0 ? floats : 1) * sizeof(float)) ? NULL : p;
}

/// Zeroed memory for partial results, straight from the system because it can be large.
static inline int at_map_parts(at_job *job, int64_t count) {
  job->parts_bytes = count * job->part_size * (int64_t)sizeof(float);
  job->parts = job->parts_bytes > 0 ? fm_map_memory((size_t)job->parts_bytes) : NULL;
  return job->parts_bytes <= 0 || job->parts;
}

static inline void at_free(at_job *job) {
  free(job->scratch);
  if (job->parts) fm_unmap_memory(job->parts, (size_t)job->parts_bytes);
  free(job->key_extents);
}
#endif
