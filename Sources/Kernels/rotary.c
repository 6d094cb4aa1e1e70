// Rotary position embedding.
#include "fermata_rotary.h"
#ifdef FM_VARIANT
// Rotates one head: (a, b) becomes (a cos - b sin, b cos + a sin), with sin negated to turn back.
FM_INLINE void FM(rotate_halves)(fm_type type, int streams, const char *x, const float *cosine, const float *sine, float sign, char *y,
                                 int64_t half) {
  vf turn = FM(v_set)(sign);
  for (int64_t i = 0; i < half; i += FM_LANES) {
    int64_t m = half - i < FM_LANES ? half - i : FM_LANES;
    if (m == FM_LANES) {
      vf a = FM(v_read)(type, x, i), b = FM(v_read)(type, x, half + i);
      vf c = FM(v_load)(cosine + i), s = FM(v_load)(sine + i) * turn;
      __builtin_prefetch(x + FM_AHEAD + i * (type == FM_BF16 ? 2 : 4));
      __builtin_prefetch(x + FM_AHEAD + (half + i) * (type == FM_BF16 ? 2 : 4));
      if (streams) {
        FM(v_stream)((float *)y + i, a * c - b * s);
        FM(v_stream)((float *)y + half + i, b * c + a * s);
      } else {
        FM(v_write)(type, y, i, a * c - b * s);
        FM(v_write)(type, y, half + i, b * c + a * s);
      }
    } else {
      vf a = FM(v_read_n)(type, x, i, m), b = FM(v_read_n)(type, x, half + i, m);
      vf c = FM(v_load_n)(cosine + i, m), s = FM(v_load_n)(sine + i, m) * turn;
      FM(v_write_n)(type, y, i, a * c - b * s, m);
      FM(v_write_n)(type, y, half + i, b * c + a * s, m);
    }
  }
}

// Neighbours are split into even and odd lanes, turned, and woven again.
FM_INLINE void FM(rotate_pairs)(fm_type type, const char *x, const float *cosine, const float *sine, float sign, char *y,
                                int64_t half) {
  for (int64_t i = 0; i < half; i += FM_LANES / 2) {
    int64_t m = half - i < FM_LANES / 2 ? half - i : FM_LANES / 2;
    int whole = m == FM_LANES / 2;
    vf v = whole ? FM(v_read)(type, x, 2 * i) : FM(v_read_n)(type, x, 2 * i, 2 * m);
    vf c = whole ? FM(v_load_n)(cosine + i, FM_LANES / 2) : FM(v_load_n)(cosine + i, m);
    vf s = (whole ? FM(v_load_n)(sine + i, FM_LANES / 2) : FM(v_load_n)(sine + i, m)) * FM(v_set)(sign), out;
    for (int k = 0; k < FM_LANES / 2; k++) {
      out[2 * k] = v[2 * k] * c[k] - v[2 * k + 1] * s[k];
      out[2 * k + 1] = v[2 * k + 1] * c[k] + v[2 * k] * s[k];
    }
    if (whole) FM(v_write)(type, y, 2 * i, out); else FM(v_write_n)(type, y, 2 * i, out, 2 * m);
  }
}

// All heads of one position.
static void FM(rotary_heads)(fm_type type, const char *x, int64_t head_stride, const float *cosine, const float *sine,
                             char *y, int64_t heads, int64_t width, int64_t rotary, int interleaved, int direction,
                             int streams) {
  int64_t bytes = type == FM_BF16 ? 2 : 4;
  float sign = direction < 0 ? -1.0f : 1.0f;
  for (int64_t h = 0; h < heads; h++) {
    const char *p = x + h * head_stride * bytes;
    char *q = y + h * width * bytes;
    if (type == FM_BF16) {
      if (interleaved) FM(rotate_pairs)(FM_BF16, p, cosine, sine, sign, q, rotary / 2);
      else FM(rotate_halves)(FM_BF16, 0, p, cosine, sine, sign, q, rotary / 2);
    } else {
      if (interleaved) FM(rotate_pairs)(FM_F32, p, cosine, sine, sign, q, rotary / 2);
      else if (streams) FM(rotate_halves)(FM_F32, 1, p, cosine, sine, sign, q, rotary / 2);
      else FM(rotate_halves)(FM_F32, 0, p, cosine, sine, sign, q, rotary / 2);
    }
    if (rotary < width && p != q) memcpy(q + rotary * bytes, p + rotary * bytes, (size_t)((width - rotary) * bytes));
  }
}

#else
#define FM_FILE "../rotary.c"
#include "support/each_variant.h"

typedef struct {
  fm_type type;
  const char *x;
  char *y;
  const int64_t *stride;
  const float *cosine, *sine;
  int64_t angle_batch_stride, rows, rows_per_item, length, heads, width, rotary;
  int interleaved, direction, streams;
} rotary_task;

static void rotary_item(void *context, int64_t item) {
  const rotary_task *t = context;
  int64_t bytes = t->type == FM_BF16 ? 2 : 4;
  int64_t last = (item + 1) * t->rows_per_item < t->rows ? (item + 1) * t->rows_per_item : t->rows;
  for (int64_t row = item * t->rows_per_item; row < last; row++) {
    int64_t batch = row / t->length, position = row % t->length;
    int64_t angle = batch * t->angle_batch_stride + position * (t->rotary / 2);
    FM_CALL(rotary_heads)(t->type, t->x + (batch * t->stride[0] + position * t->stride[1]) * bytes, t->stride[2],
                          t->cosine + angle, t->sine + angle, t->y + row * t->heads * t->width * bytes, t->heads, t->width,
                          t->rotary, t->interleaved, t->direction, t->streams);
  }
  if (t->streams) __sync_synchronize();
}

void fm_rotary(fm_type type, const void *x, const int64_t stride[3], const float *cosine, const float *sine,
               int64_t angle_batch_stride, void *y, int64_t batch, int64_t length, int64_t heads, int64_t width,
               int64_t rotary, int interleaved, int direction) {
  int64_t row = heads * width, rows = batch * length;
  if (row <= 0 || rows <= 0) return;
  rotary_task t = {type, x, y, stride, cosine, sine, angle_batch_stride, rows, row >= 16384 ? 1 : 16384 / row, length, heads,
                   width, rotary, interleaved, direction, 0};
  // Halves of whole vectors alone are stored past the caches.
  t.streams = type == FM_F32 && x != y && !interleaved && rotary == width && width % 32 == 0 && fm_streams(y, 4 * rows * row, 4 * width);
  if (rows * row <= 32768) t.rows_per_item = rows;
  fm_parallel((rows + t.rows_per_item - 1) / t.rows_per_item, rotary_item, &t);
}
#endif
