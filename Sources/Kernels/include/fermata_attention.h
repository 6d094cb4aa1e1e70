// Exact attention in tiles: softmax(scale q k^T + mask) v without the (query, key) matrix.
#ifndef FERMATA_ATTENTION_H
#define FERMATA_ATTENTION_H
#include "fermata_runtime.h"

/// What each query may see. All conditions hold together; a zero-initialised mask lets everything see everything.
/// Positions are absolute; they need not start at 0 and need not be consecutive.
typedef struct {
  /// (query_length) and (key_length) per batch row, i32; NULL: 0, 1, 2, … with queries at the end of the keys
  /// (query i stands at position i + key_length - query_length). Batch strides are 0 when rows share them.
  const int32_t *query_positions, *key_positions;
  int64_t query_position_stride, key_position_stride;
  /// key position <= query position
  int causal;
  /// With window > 0, key position > query position - window, except for sinks and the prefix. When not causal,
  /// also key position < query position + window.
  int64_t window;
  /// Keys at positions < sinks are never hidden by the window.
  int64_t sinks;
  /// Keys at positions < prefix are seen by every query (also by earlier ones: a bidirectional prefix), whatever the window.
  int64_t prefix;
  /// Document numbers, i32, (query_length) and (key_length) per batch row; equal numbers see each other; negative: padding,
  /// which sees and is seen by nothing. NULL: one document. Never overridden by sinks or prefix.
  const int32_t *query_documents, *key_documents;
  int64_t query_document_stride, key_document_stride;
  /// Extra visibility bytes (query_length, key_length), 0 hides: for trees of drafts. NULL: none. Batch stride 0 when shared.
  const uint8_t *visible;
  int64_t visible_batch_stride, visible_row_stride;
} fm_attention_mask;

typedef struct {
  fm_type type;  // of q, k, v, o and their gradients: f32 or bf16. Scores and statistics are f32.
  int64_t batch, query_heads, key_value_heads;  // query head h reads key head h / (query_heads / key_value_heads)
  int64_t query_length, key_length, key_width, value_width;
  /// Strides in elements of (batch, position, head); the last axis is contiguous.
  int64_t query_stride[3], key_stride[3], value_stride[3], output_stride[3];
  float scale;
  float softcap;  // above 0: scores s = scale q k^T become softcap tanh(s / softcap) before the mask; 0: they stay
  fm_attention_mask mask;
} fm_attention_shape;

/// output and, when not NULL, log_sum_exp (batch, query_heads, query_length), f32: the statistics by which
/// outputs over different keys merge, and which the backward needs. A query that sees no key gives zeros and -infinity.
/// Returns 0, or -1 when scratch memory (a few tiles per thread) could not be had; the backward takes up to 8 MB a thread for packed
/// queries, and f32 gradients of the queries.
int fm_attention(const fm_attention_shape *shape, const void *query, const void *key, const void *value, void *output,
                 float *log_sum_exp);

/// Gradients: dquery, dkey, dvalue have query's, key's, value's strides of `gradient_*` below and the shape's type.
/// `dlog_sum_exp` (same shape as log_sum_exp) may be NULL.
typedef struct {
  int64_t dquery_stride[3], dkey_stride[3], dvalue_stride[3], doutput_stride[3];
} fm_attention_gradient_strides;
int fm_attention_backward(const fm_attention_shape *shape, const fm_attention_gradient_strides *strides, const void *query,
                          const void *key, const void *value, const void *output, const float *log_sum_exp,
                          const void *doutput, const float *dlog_sum_exp, void *dquery, void *dkey, void *dvalue);
#endif
