// Umbrella header of Fermata's kernels: one header per family of kernels.
//
// Conventions of every kernel
// - Shapes are written (batch, length, width) and strides are in elements, not bytes.
// - `fm_type` names the element type of the activations; statistics, states and weight gradients are f32.
// - A kernel never allocates what grows with the sequence unless its header says so, never traps, and
//   reads no global state but the processor path (`fm_path`) and the thread count (`fm_threads`).
// - Results do not depend on the number of threads: work is split by rows or heads, never inside a sum,
//   unless the partial sums have a fixed number and order.
#ifndef FERMATA_KERNELS_H
#define FERMATA_KERNELS_H
#include "fermata_runtime.h"
#include "fermata_elementwise.h"
#include "fermata_product.h"
#include "fermata_tiles.h"
#include "fermata_norm.h"
#include "fermata_rotary.h"
#include "fermata_dropout.h"
#include "fermata_activation.h"
#include "fermata_widen.h"
#include "fermata_attention.h"
#include "fermata_cross_entropy.h"
#include "fermata_optimizer.h"
#include "fermata_gated_scan.h"
#include "fermata_taylor.h"
#include "fermata_recurrence.h"
#include "fermata_running_average.h"
#include "fermata_diagonal_scan.h"
#include "fermata_low_rank_scan.h"
#include "fermata_selective_scan.h"
#include "fermata_gated_norm.h"
#include "fermata_short_convolution.h"
#endif
