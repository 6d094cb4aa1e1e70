// The scan of diagonal-plus-low-rank state spaces: 16 channels as lanes, a token at a time through all modes, because the next
// token needs sigma of all of them. A mode's ten numbers lie together, and beside them its state.
//
// Backward: a chunk's states are computed again, then from its end, with h_t the gradient of sigma_t,
//   g_t = conj(a) g_{t+1} + conj(r) dy_t + conj(s) h_t,   h_{t-1} = -sum Re(conj(w) g_t),   du_t = sum Re(conj(b) g_t),
// and what the parameters get from all tokens of the chunk, mode by mode.
#include "fermata_low_rank_scan.h"
#include "support/low_rank_task.h"
#include "support/modes_tile.h"

#ifdef FM_VARIANT
#include "support/low_rank_forward.h"
#include "support/low_rank_backward.h"
#else
#define FM_FILE "../low_rank_scan.c"
#include "support/each_variant.h"

int fm_low_rank_scan(const fm_diagonal_scan_shape *shape, const fm_low_rank_system *system, const void *input,
                     const float *initial_state, void *output, float *final_state, float *chunk_states) {
  low_rank_arrays arrays = {.system = system, .input = input, .initial_state = initial_state, .output = output,
                            .final_state = final_state, .chunk_states = chunk_states};
  return modes_start(shape, &arrays, FM_CALL(low_rank_forward), LOW_RANK_SLOTS + 2, 2 * MODES_TILE + 2 * MODES_CHANNELS);
}

int fm_low_rank_scan_backward(const fm_diagonal_scan_shape *shape, const fm_low_rank_system *system, const void *input,
                              const float *chunk_states, const void *doutput, const float *dfinal_state, void *dinput,
                              const fm_low_rank_system *gradient, float *dinitial_state) {
  low_rank_arrays arrays = {.system = system, .gradient = gradient, .input = input, .doutput = doutput,
                            .kept_states = chunk_states, .dfinal_state = dfinal_state, .dinput = dinput,
                            .dinitial_state = dinitial_state};
  int64_t planes = 2 * LOW_RANK_SLOTS + 2 + 6 * FM_DIAGONAL_CHUNK;
  return modes_start(shape, &arrays, FM_CALL(low_rank_backward), planes, 6 * MODES_TILE + 3 * MODES_CHANNELS);
}
#endif
