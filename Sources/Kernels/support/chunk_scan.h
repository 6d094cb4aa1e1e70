// Gated scans with one decay a head, in chunks (chunk_scan.c): called by gated_scan.c.
#ifndef FERMATA_CHUNK_SCAN_H
#define FERMATA_CHUNK_SCAN_H
#include "fermata_gated_scan.h"

/// As fm_gated_scan and fm_gated_scan_backward, for shapes with vector_gate = 0, without rates, of at least one position.
int chunk_scan_forward(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, void *output, float *final_state,
                       float *chunk_states);
int chunk_scan_backward(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, const float *chunk_states,
                        const void *doutput, const float *dfinal_state, const fm_gated_scan_gradients *gradients);
#endif
