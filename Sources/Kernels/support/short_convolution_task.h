// A task of the short convolution, and where its tokens are plain. Same on every processor path.
#ifndef FERMATA_SHORT_CONVOLUTION_TASK_H
#define FERMATA_SHORT_CONVOLUTION_TASK_H
#include "fermata_short_convolution.h"

/// Tokens that a vector of channels goes through at once: with the narrowest block they fit the first-level cache.
#define CONVOLUTION_RUN 64
/// Of plain tokens (support/short_convolution_plain.h): the groups that are written out, the span (whole groups) that a vector of
/// channels goes through at once, and the widest kernel that knows them.
#define CONVOLUTION_GROUP 4
#define CONVOLUTION_SPAN 16
#define CONVOLUTION_PLAIN 4
/// Where a gradient goes whose input a document's start has cut off.
#define CONVOLUTION_NOWHERE INT64_MIN

typedef struct {
  const fm_convolution_shape *shape;
  const void *x, *dy;
  const float *tail, *dfinal_tail;
  void *y, *dx;
  float *final_tail, *dtail;
  int64_t b, first, channels, padded;  // the row of the batch and the block of channels; padded to whole vectors
  /// Scratch of (K, padded) each, and (padded); run_* are the sums of a run.
  float *weight, *dweight, *run_weight, *history, *dhistory, *bias, *dbias, *run_bias;
} convolution_task;

static inline int convolution_resets(const convolution_task *t, int64_t i) {
  return t->shape->resets && t->shape->resets[t->b * t->shape->length + i];
}
static inline int convolution_valid(const convolution_task *t, int64_t i) {
  return !t->shape->valid || t->shape->valid[t->b * t->shape->length + i];
}

/// How many tokens from `first` on are plain, in whole groups: valid, none a document's start, and as many before them as they
/// see are valid too and of one document.
static int64_t convolution_count_plain(const convolution_task *t, int64_t first, int64_t last) {
  int64_t before = t->shape->width - 1, i = first - before;
  last = first + (last - first) / CONVOLUTION_GROUP * CONVOLUTION_GROUP;
  if (before == 0 || before >= CONVOLUTION_PLAIN || i < 0 || (t->dx && !t->dy)) return 0;
  if (!t->shape->resets && !t->shape->valid) return last - first;
  // What the first token of those before them sees does not matter: it may be a document's start.
  while (i < last && convolution_valid(t, i) && (i == first - before || !convolution_resets(t, i))) i++;
  return i <= first ? 0 : (i - first) / CONVOLUTION_GROUP * CONVOLUTION_GROUP;
}

/// The end of the run that begins at `first`: of plain tokens, or of others up to where plain ones begin.
static int64_t convolution_run_end(const convolution_task *t, int64_t first, int *plain) {
  int64_t length = t->shape->length, last = first + CONVOLUTION_RUN < length ? first + CONVOLUTION_RUN : length;
  int64_t count = convolution_count_plain(t, first, last);
  *plain = count > 0;
  if (count > 0) return first + count;
  for (int64_t i = first + CONVOLUTION_GROUP; i + CONVOLUTION_GROUP <= last; i += CONVOLUTION_GROUP)
    if (convolution_count_plain(t, i, i + CONVOLUTION_GROUP)) return i;
  return last;
}
#endif
