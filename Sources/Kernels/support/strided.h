// Walks several strided arrays of one shape row by row, in parallel.
#ifndef FERMATA_STRIDED_H
#define FERMATA_STRIDED_H
#include "fermata_elementwise.h"

#define FM_MAX_OPERANDS 4
/// Elements that one thread takes at a time; arrays of up to twice as many stay on the calling thread.
#define FM_GRAIN 16384

typedef struct {
  int rank, operands;
  int64_t shape[FM_MAX_RANK];
  int64_t stride[FM_MAX_OPERANDS][FM_MAX_RANK];
} fm_layout;

/// Handles n elements of the innermost axis from the given element offsets on.
typedef void (*fm_row_body)(const void *context, const fm_layout *layout, const int64_t *offset, int64_t n);

/// Drops axes of size 1 and joins neighbours that every operand steps through evenly.
/// Returns the number of elements; at least one axis is left.
static inline int64_t fm_layout_collapse(fm_layout *l) {
  int kept = 0;
  int64_t count = 1;
  for (int d = 0; d < l->rank; d++) {
    count *= l->shape[d];
    if (l->shape[d] == 1) continue;
    int joins = kept > 0;
    for (int k = 0; k < l->operands && joins; k++)
      joins = l->stride[k][kept - 1] == l->stride[k][d] * l->shape[d];
    if (joins) {
      l->shape[kept - 1] *= l->shape[d];
      for (int k = 0; k < l->operands; k++) l->stride[k][kept - 1] = l->stride[k][d];
    } else {
      l->shape[kept] = l->shape[d];
      for (int k = 0; k < l->operands; k++) l->stride[k][kept] = l->stride[k][d];
      kept++;
    }
  }
  if (kept == 0) {
    l->shape[0] = 1;
    for (int k = 0; k < l->operands; k++) l->stride[k][0] = 1;
    kept = 1;
  }
  l->rank = kept;
  return count;
}

typedef struct {
  const fm_layout *layout;
  fm_row_body body;
  const void *context;
  int64_t rows, rows_per_item, chunks, chunk;
} fm_row_walk;

static inline void fm_walk_item(void *context, int64_t item) {
  const fm_row_walk *w = context;
  const fm_layout *l = w->layout;
  int inner = l->rank - 1;
  int64_t row = item / w->chunks * w->rows_per_item, first = item % w->chunks * w->chunk;
  int64_t last_row = row + w->rows_per_item < w->rows ? row + w->rows_per_item : w->rows;
  int64_t n = l->shape[inner] - first < w->chunk ? l->shape[inner] - first : w->chunk;
  int64_t index[FM_MAX_RANK] = {0}, offset[FM_MAX_OPERANDS];
  for (int k = 0; k < l->operands; k++) offset[k] = first * l->stride[k][inner];
  int64_t rest = row;
  for (int d = inner - 1; d >= 0; d--) {
    index[d] = rest % l->shape[d];
    rest /= l->shape[d];
    for (int k = 0; k < l->operands; k++) offset[k] += index[d] * l->stride[k][d];
  }
  for (; row < last_row; row++) {
    w->body(w->context, l, offset, n);
    for (int d = inner - 1; d >= 0; d--) {
      for (int k = 0; k < l->operands; k++) offset[k] += l->stride[k][d];
      if (++index[d] < l->shape[d]) break;
      for (int k = 0; k < l->operands; k++) offset[k] -= l->stride[k][d] * l->shape[d];
      index[d] = 0;
    }
  }
}

/// Calls body for every row of a collapsed layout; rows are grouped, or cut, into items of about FM_GRAIN elements.
static inline void fm_for_each_row(const fm_layout *l, int64_t count, fm_row_body body, const void *context) {
  if (count == 0) return;
  int64_t inner = l->shape[l->rank - 1];
  fm_row_walk w = {.layout = l, .body = body, .context = context, .rows = count / inner};
  w.chunk = inner <= 2 * FM_GRAIN ? inner : FM_GRAIN;
  w.chunks = (inner + w.chunk - 1) / w.chunk;
  w.rows_per_item = inner >= FM_GRAIN ? 1 : FM_GRAIN / inner;
  if (count <= 2 * FM_GRAIN && w.chunks == 1) w.rows_per_item = w.rows;
  int64_t items = (w.rows + w.rows_per_item - 1) / w.rows_per_item * w.chunks;
  if (items == 1) fm_walk_item(&w, 0); else fm_parallel(items, fm_walk_item, &w);
}
#endif
