// Gated linear attention: a matrix state with decay, in chunks.
//
//   S_t = diag(exp(g_t)) S_{t-1} + k_t^T v_t        S is (key_width, value_width) per head, f32
//   o_t = scale * q_t S_t
//
// g_t <= 0 is the log of the decay: one number per key feature (GLA, Yang et al. 2024) or one per head (Mamba-2's scalar,
// Dao & Gu 2024; RetNet's when constant). Exact for any g, -infinity included: no exponent of a positive number is taken.
#ifndef FERMATA_GATED_SCAN_H
#define FERMATA_GATED_SCAN_H
#include "fermata_runtime.h"

typedef struct {
  fm_type type;  // of q, k, v, o and their gradients; g, states and dg are f32
  int64_t batch, length, heads, key_width, value_width;
  /// Strides in elements of (batch, position, head); last axis contiguous. gate_stride likewise, for f32 g.
  int64_t query_stride[3], key_stride[3], value_stride[3], gate_stride[3];
  /// 1: g is (batch, length, heads, key_width); 0: g is (batch, length, heads).
  int vector_gate;
  float scale;
  /// u8 (batch, length): 1 at the first token of a document, where the state is zeroed before the update. NULL: none.
  const uint8_t *resets;
} fm_gated_scan_shape;

/// initial_state (batch, heads, key_width, value_width) f32 or NULL (zeros); final_state likewise (not NULL; may not alias).
/// output is contiguous (batch, length, heads, value_width).
/// chunk_states, when not NULL, receives the state before each chunk of FM_SCAN_CHUNK positions
/// (batch, chunks, heads, key_width, value_width), kept for the backward.
#define FM_SCAN_CHUNK 64
int fm_gated_scan(const fm_gated_scan_shape *shape, const void *query, const void *key, const void *value,
                  const float *gate, const float *initial_state, void *output, float *final_state, float *chunk_states);

/// Gradients from doutput (contiguous, may be NULL: zeros) and dfinal_state (may be NULL: zeros). dquery, dkey, dvalue and dgate are contiguous
/// in their logical shapes; dinitial_state may be NULL. chunk_states as written by the forward.
int fm_gated_scan_backward(const fm_gated_scan_shape *shape, const void *query, const void *key, const void *value,
                           const float *gate, const float *initial_state, const float *chunk_states,
                           const void *doutput, const float *dfinal_state, void *dquery, void *dkey, void *dvalue,
                           float *dgate, float *dinitial_state);
#endif
