// The short convolution of plain tokens: valid, none a document's start, after K-1 such. Nothing but their inputs need be known,
// and a group of them is written out, so that what goes on from token to token needs no moves. Included once per processor
// path.
#define CONVOLUTION_EACH(i, count) _Pragma("clang loop unroll(full)") for (int i = 0; i < (count); i++)

/// Asks for a group's rows, one span of tokens after this one, while this one is worked at: rows are too far apart for the
/// processor to foresee them. Past the end that is harmless.
FM_INLINE void FM(convolution_ask)(const fm_type type, const void *base, int64_t at, int64_t row) {
  const char *next = (const char *)base + (at + CONVOLUTION_SPAN * row) * (type == FM_F32 ? 4 : 2);
  CONVOLUTION_EACH(i, CONVOLUTION_GROUP) __builtin_prefetch(next + i * row * (type == FM_F32 ? 4 : 2));
}

/// One vector of channels through some groups.
FM_INLINE void FM(convolution_groups)(const int width, const fm_type type, const convolution_task *t, int64_t c, int64_t first,
                                      int64_t last) {
  const fm_convolution_shape *s = t->shape;
  const int before = width - 1;
  int64_t local = c - t->first, padded = t->padded, x_row = s->x_stride[1];
  vf w[CONVOLUTION_PLAIN], x[CONVOLUTION_PLAIN + CONVOLUTION_GROUP], bias = FM(v_load)(t->bias + local);
  CONVOLUTION_EACH(k, width) w[k] = FM(v_load)(t->weight + k * padded + local);
  CONVOLUTION_EACH(k, before) x[k] = FM(v_load)(t->history + k * padded + local);
  for (; first < last; first += CONVOLUTION_GROUP) {
    int64_t x_at = t->b * s->x_stride[0] + first * x_row + c, y_at = (t->b * s->length + first) * s->channels + c;
    FM(convolution_ask)(type, t->x, x_at, x_row);
    FM(convolution_ask)(type, t->y, y_at, s->channels);
    CONVOLUTION_EACH(i, CONVOLUTION_GROUP) x[before + i] = FM(v_read)(type, t->x, x_at + i * x_row);
    CONVOLUTION_EACH(i, CONVOLUTION_GROUP) {
      vf z = bias;
      CONVOLUTION_EACH(k, width) z = FM(v_fma)(w[k], x[i + k], z);
      if (s->silu) z = z * FM(silu_sigmoid)(z);
      FM(v_write)(type, t->y, y_at + i * s->channels, z);
    }
    CONVOLUTION_EACH(k, before) x[k] = x[CONVOLUTION_GROUP + k];
  }
  CONVOLUTION_EACH(k, before) FM(v_store)(t->history + k * padded + local, x[k]);
}

/// The backward of one vector of channels through some groups.
FM_INLINE void FM(convolution_groups_backward)(const int width, const fm_type type, const convolution_task *t, int64_t c,
                                               int64_t first, int64_t last) {
  const fm_convolution_shape *s = t->shape;
  const int before = width - 1;
  int64_t local = c - t->first, padded = t->padded, x_row = s->x_stride[1];
  vf w[CONVOLUTION_PLAIN], x[CONVOLUTION_PLAIN + CONVOLUTION_GROUP], dx[CONVOLUTION_PLAIN + CONVOLUTION_GROUP];
  vf dw[CONVOLUTION_PLAIN], bias = FM(v_load)(t->bias + local), dbias = FM(v_load)(t->run_bias + local), one = FM(v_set)(1);
  CONVOLUTION_EACH(k, width) w[k] = FM(v_load)(t->weight + k * padded + local);
  CONVOLUTION_EACH(k, width) dw[k] = FM(v_load)(t->run_weight + k * padded + local);
  CONVOLUTION_EACH(k, before) x[k] = FM(v_load)(t->history + k * padded + local);
  CONVOLUTION_EACH(k, before) dx[k] = FM(v_load)(t->dhistory + k * padded + local);
  for (; first < last; first += CONVOLUTION_GROUP) {
    int64_t x_at = t->b * s->x_stride[0] + first * x_row + c, y_at = (t->b * s->length + first) * s->channels + c;
    FM(convolution_ask)(type, t->x, x_at, x_row);
    FM(convolution_ask)(type, t->dy, y_at, s->channels);
    FM(convolution_ask)(type, t->dx, y_at, s->channels);
    CONVOLUTION_EACH(i, CONVOLUTION_GROUP) x[before + i] = FM(v_read)(type, t->x, x_at + i * x_row);
    CONVOLUTION_EACH(i, CONVOLUTION_GROUP) {
      vf dz = FM(v_read)(type, t->dy, y_at + i * s->channels);
      if (s->silu) {
        vf z = bias;
        CONVOLUTION_EACH(k, width) z = FM(v_fma)(w[k], x[i + k], z);
        vf sigmoid = FM(silu_sigmoid)(z);
        dz *= sigmoid * FM(v_fma)(z, one - sigmoid, one);
      }
      dbias += dz;
      CONVOLUTION_EACH(k, width) dw[k] = FM(v_fma)(dz, x[i + k], dw[k]);
      CONVOLUTION_EACH(k, before) dx[i + k] = FM(v_fma)(dz, w[k], dx[i + k]);
      dx[i + before] = dz * w[before];
      FM(v_write)(type, t->dx, y_at + (i - before) * s->channels, dx[i]);
    }
    CONVOLUTION_EACH(k, before) x[k] = x[CONVOLUTION_GROUP + k];
    CONVOLUTION_EACH(k, before) dx[k] = dx[CONVOLUTION_GROUP + k];
  }
  CONVOLUTION_EACH(k, before) FM(v_store)(t->history + k * padded + local, x[k]);
  CONVOLUTION_EACH(k, before) FM(v_store)(t->dhistory + k * padded + local, dx[k]);
  CONVOLUTION_EACH(k, width) FM(v_store)(t->run_weight + k * padded + local, dw[k]);
  FM(v_store)(t->run_bias + local, dbias);
}

/// Every whole vector of channels through a run of plain tokens, and where the channels begin that are left. A span of tokens goes
/// through all channels before the next, so that rows are read and written in about the order of memory.
#define CONVOLUTION_SPANS(groups, width, type)                                \
  for (int64_t i = first; i < last; i += CONVOLUTION_SPAN)                    \
    for (int64_t c = t->first; c < end; c += FM_LANES)                        \
      FM(groups)(width, type, t, c, i, i + CONVOLUTION_SPAN < last ? i + CONVOLUTION_SPAN : last)
#define CONVOLUTION_PLAIN_RUN(groups)                                         \
  do {                                                                        \
    if (width == 4 && f32) CONVOLUTION_SPANS(groups, 4, FM_F32);              \
    else if (width == 4) CONVOLUTION_SPANS(groups, 4, FM_BF16);               \
    else if (width == 3 && f32) CONVOLUTION_SPANS(groups, 3, FM_F32);         \
    else if (width == 3) CONVOLUTION_SPANS(groups, 3, FM_BF16);               \
    else if (f32) CONVOLUTION_SPANS(groups, 2, FM_F32);                       \
    else CONVOLUTION_SPANS(groups, 2, FM_BF16);                               \
  } while (0)
static int64_t FM(convolution_plain)(const convolution_task *t, int64_t first, int64_t last) {
  int64_t width = t->shape->width, end = t->first + t->channels / FM_LANES * FM_LANES;
  int f32 = t->shape->type == FM_F32;
  if (!t->dy) {
    CONVOLUTION_PLAIN_RUN(convolution_groups);
    return end;
  }
  int64_t sums = width * t->padded;
  memset(t->run_weight, 0, sizeof(float) * (size_t)sums);
  memset(t->run_bias, 0, sizeof(float) * (size_t)t->padded);
  CONVOLUTION_PLAIN_RUN(convolution_groups_backward);
  // Sums of a run at a time, so that rounding does not pile up with the number of tokens.
  for (int64_t i = 0; i < sums; i++) t->dweight[i] += t->run_weight[i];
  for (int64_t c = 0; c < t->padded; c++) t->dbias[c] += t->run_bias[c];
  return end;
}
#undef CONVOLUTION_SPANS
#undef CONVOLUTION_PLAIN_RUN
#undef CONVOLUTION_EACH
