// The recurrence of every mixer whose state is a matrix, in chunks:
//
//   u_t = w_t v_t                                   without rates; w_t is 1 unless weights are given
//   u_t = b_t (v_t - k_t diag(exp(g_t)) S_{t-1})    with rates: the delta rule writes what is missing
//   S_t = diag(exp(g_t)) S_{t-1} + k_t^T u_t        S is (key_width, value_width) per head, f32
//   o_t = scale * q_t S_t
//
// g_t <= 0 is the log of the decay: one number per key feature (GLA, Yang et al. 2024), one per head (Mamba-2, Dao & Gu 2024;
// RetNet, Sun et al. 2023, where it is constant) or zero (Katharopoulos et al. 2020). Any g does, -infinity included: no
// exponent of a positive number is taken. b_t is the delta rule's rate (Schlag et al. 2021; with decay Yang et al. 2025).
//
// Everything is computed in f32, with one exception: one decay a head without rates goes in chunks of FM_SCAN_CHUNK positions,
// and where its type is bf16 and the processor multiplies that, what a chunk's products take is rounded to it, the state that
// is read included. The state itself stays f32.
#ifndef FERMATA_GATED_SCAN_H
#define FERMATA_GATED_SCAN_H
#include "fermata_runtime.h"

typedef struct {
  fm_type type;  // of q, k, v, o and their gradients; g, b, states and their gradients are f32
  int64_t batch, length, heads, key_width, value_width;
  /// Heads of queries and keys, each for heads / key_heads of the values; as many as heads with vector gates or rates.
  int64_t key_heads;
  /// Strides in elements of (batch, position, head); last axis contiguous. Those of gate, rate and weight likewise, for f32;
  /// any of them may be 0.
  int64_t query_stride[3], key_stride[3], value_stride[3], gate_stride[3], rate_stride[3], weight_stride[3];
  /// 1: g is (batch, length, heads, key_width); 0: g is (batch, length, heads).
  int vector_gate;
  float scale;
  /// u8 (batch, length): 1 at the first token of a document, where the state is zeroed before the update. NULL: none.
  const uint8_t *resets;
} fm_gated_scan_shape;

typedef struct {
  const void *query, *key, *value;
  const float *gate;
  const float *rate;           // (batch, length, heads), or NULL: no delta rule
  const float *weight;         // (batch, length, heads), or NULL: ones; only with one decay a head and without rates
  const float *initial_state;  // (batch, heads, key_width, value_width), or NULL: zeros
} fm_gated_scan_inputs;

/// Contiguous, in the inputs' logical shapes. gate, rate, weight and initial_state may be NULL: not wanted.
typedef struct {
  void *query, *key, *value;
  float *gate, *rate, *weight, *initial_state;
} fm_gated_scan_gradients;

/// final_state is as initial_state (not NULL; may not alias); output is contiguous (batch, length, heads, value_width).
/// chunk_states, when not NULL, receives the state before each chunk of FM_SCAN_CHUNK positions
/// (batch, chunks, heads, key_width, value_width), kept for the backward.
/// Scratch is bounded by a few states and tiles a thread, of as many heads as share a task. -1 when there is no memory for it.
#define FM_SCAN_CHUNK 64
int fm_gated_scan(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, void *output, float *final_state,
                  float *chunk_states);

/// Gradients from doutput (contiguous) and dfinal_state; NULL stands for zeros. chunk_states as written by the forward.
/// Where heads that share keys are divided among tasks, each task's f32 gradients of queries and keys are scratch too: at most 256 MiB,
/// or those of one task.
int fm_gated_scan_backward(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, const float *chunk_states,
                           const void *doutput, const float *dfinal_state, const fm_gated_scan_gradients *gradients);
#endif
