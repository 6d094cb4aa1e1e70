// Second-order Taylor features. Products of row i stand together: y_i times y_i, y_(i+1), ...
#include "fermata_taylor.h"
#ifdef FM_VARIANT
#include "support/scan_tile.h"

/// y = x / width^(1/4), with zeros for a vector after it.
static void FM(taylor_scaled)(fm_type type, const void *x, int64_t at, int64_t width, float scale, float *y) {
  int64_t i = 0;
  for (; i < width; i += FM_LANES) FM(v_store)(y + i, FM(v_set)(scale) * FM(scan_read_n)(type, x, at + i, width - i));
  FM(v_store)(y + i, FM(v_set)(0));
}

static void FM(taylor_rows)(fm_type type, const void *x, void *features, int64_t first, int64_t rows, int64_t width) {
  float y[FM_TAYLOR_WIDEST + 2 * FM_LANES], scale = 1 / sqrtf(sqrtf((float)width));
  const float half = 0.70710678f;
  for (int64_t r = first; r < first + rows; r++) {
    int64_t at = r * fm_taylor_width(width);
    FM(taylor_scaled)(type, x, r * width, width, scale, y);
    FM(scan_write_n)(type, features, at++, FM(v_set)(1), 1);
    for (int64_t i = 0; i < width; i += FM_LANES) FM(scan_write_n)(type, features, at + i, FM(v_load)(y + i), width - i);
    at += width;
    for (int64_t i = 0; i < width; at += width - i, i++)
      for (int64_t j = i; j < width; j += FM_LANES) {
        vf products = FM(v_set)(y[i]) * FM(v_load)(y + j);
        if (j == i) products[0] *= half;
        FM(scan_write_n)(type, features, at + j - i, products, width - j);
      }
  }
}

static void FM(taylor_rows_backward)(fm_type type, const void *x, const void *dfeatures, void *dx, int64_t first, int64_t rows,
                                     int64_t width) {
  float y[FM_TAYLOR_WIDEST + 2 * FM_LANES], dy[FM_TAYLOR_WIDEST + 2 * FM_LANES], scale = 1 / sqrtf(sqrtf((float)width));
  const float half = 0.70710678f;
  for (int64_t r = first; r < first + rows; r++) {
    int64_t at = r * fm_taylor_width(width) + 1;
    FM(taylor_scaled)(type, x, r * width, width, scale, y);
    for (int64_t i = 0; i < width; i += FM_LANES) FM(v_store)(dy + i, FM(scan_read_n)(type, dfeatures, at + i, width - i));
    at += width;
    for (int64_t i = 0; i < width; at += width - i, i++) {
      vf sum = FM(v_set)(0);
      for (int64_t j = i; j < width; j += FM_LANES) {
        // Both factors of a product have a gradient; a square's two are one and the same.
        vf d = FM(scan_read_n)(type, dfeatures, at + j - i, width - j);
        if (j == i) d[0] *= half;
        sum = FM(v_fma)(d, FM(v_load)(y + j), sum);
        FM(v_store)(dy + j, FM(v_fma)(d, FM(v_set)(y[i]), FM(v_load)(dy + j)));
      }
      dy[i] += FM(v_sum)(sum);
    }
    for (int64_t i = 0; i < width; i += FM_LANES)
      FM(scan_write_n)(type, dx, r * width + i, FM(v_set)(scale) * FM(v_load)(dy + i), width - i);
  }
}

#else
#define FM_FILE "../taylor.c"
#include "support/each_variant.h"

#define TAYLOR_ROWS 64

typedef struct {
  fm_type type;
  const void *x, *dfeatures;
  void *result;
  int64_t rows, width;
} taylor_task;

static void taylor_item(void *context, int64_t item) {
  const taylor_task *t = context;
  int64_t first = item * TAYLOR_ROWS, rows = t->rows - first < TAYLOR_ROWS ? t->rows - first : TAYLOR_ROWS;
  if (t->dfeatures) FM_CALL(taylor_rows_backward)(t->type, t->x, t->dfeatures, t->result, first, rows, t->width);
  else FM_CALL(taylor_rows)(t->type, t->x, t->result, first, rows, t->width);
}

static void taylor_run(taylor_task t) {
  int64_t items = (t.rows + TAYLOR_ROWS - 1) / TAYLOR_ROWS;
  // Few rows are done before other threads wake.
  if (items > 2) fm_parallel(items, taylor_item, &t);
  else for (int64_t i = 0; i < items; i++) taylor_item(&t, i);
}

void fm_taylor(fm_type type, const void *x, void *features, int64_t rows, int64_t width) {
  taylor_run((taylor_task){.type = type, .x = x, .result = features, .rows = rows, .width = width});
}

void fm_taylor_backward(fm_type type, const void *x, const void *dfeatures, void *dx, int64_t rows, int64_t width) {
  taylor_run((taylor_task){.type = type, .x = x, .dfeatures = dfeatures, .result = dx, .rows = rows, .width = width});
}
#endif
