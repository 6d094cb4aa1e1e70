// What forward and backward of the selective scan share: exponentials, and loads and stores of one vector of channels.
// Included once per processor path, after support/scan_tile.h and support/vector_math.h.


/// 2^x for x <= 0: x = n + f, |f| <= 1/2, a polynomial in f that is exact at 0 (it interpolates (2^f - 1) / f at Chebyshev
/// nodes), then the exponent. Below -126 the result is next to nothing; NaN stays NaN.
FM_INLINE vf FM(selective_exp2)(vf x) {
#pragma clang fp contract(fast)
  vf least = FM(v_set)(-126.0f);
#if FM_LANES == 16
  x = (vf)_mm512_max_ps((__m512)least, (__m512)x);
  vf n = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  x = FM(v_select)(x < least, least, x);
  vf magic = FM(v_set)(12582912.0f), n = (x + magic) - magic;
#endif
  vf f = x - n, p = FM(v_set)(1.54531629451e-4f);
  p = p * f + FM(v_set)(1.33908633647e-3f);
  p = p * f + FM(v_set)(9.61808255728e-3f);
  p = p * f + FM(v_set)(5.55035711422e-2f);
  p = p * f + FM(v_set)(2.40226507606e-1f);
  p = p * f + FM(v_set)(6.93147188026e-1f);
  p = p * f + FM(v_set)(1.0f);
#if FM_LANES == 16
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  vi exponent = __builtin_convertvector(FM(v_select)(n == n, n, FM(v_set)(0)), vi);
  return p * (vf)((exponent + FM(v_seti)(127)) << 23);
#endif
}

FM_INLINE vf FM(selective_softplus)(vf x) {
  return FM(v_maximum)(x, FM(v_set)(0)) + FM(v_log1p)(FM(v_exp)(-FM(v_abs)(x)));
}

/// The rows of b or c of a chunk, as f32 (positions, states).
static void FM(selective_load_rows)(fm_type type, const void *from, const int64_t stride[2], int64_t b, int64_t first,
                                    int64_t last, int64_t states, float *to) {
  for (int64_t i = first; i < last; i++, to += states) {
    int64_t at = b * stride[0] + i * stride[1];
    for (int64_t n = 0; n < states; n += FM_LANES)
      FM(scan_write_n)(FM_F32, to, n, FM(scan_read_n)(type, from, at + n, states - n), states - n);
  }
}

/// Copies a block of (states, channels) rows between memory and the vectors of the scratch, (vector, state, lane).
static void FM(selective_load_block)(const selective_task *t, const float *from, float factor, float *to) {
  for (int64_t c = 0; c < t->channels; c += FM_LANES)
    for (int64_t n = 0; n < t->shape->states; n++, to += FM_LANES) {
      vf row = from ? FM(scan_read_n)(FM_F32, from, n * t->shape->channels + c, t->channels - c) : FM(v_set)(0);
      FM(v_store)(to, row * FM(v_set)(factor));
    }
}
static void FM(selective_store_block)(const selective_task *t, const float *from, float *to) {
  for (int64_t c = 0; c < t->channels; c += FM_LANES)
    for (int64_t n = 0; n < t->shape->states; n++, from += FM_LANES)
      FM(scan_write_n)(FM_F32, to, n * t->shape->channels + c, FM(v_load)(from), t->channels - c);
}

/// A token's activations for one vector of channels, all in f32.
typedef struct {
  vf x, raw, step, skip;
} FM(selective_token);

FM_INLINE FM(selective_token) FM(selective_read)(const fm_type type, const selective_task *t, int64_t i, int64_t c) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t n = t->channels - c, channel = t->first + c;
  FM(selective_token) token;
  token.x = FM(scan_read_n)(type, s->x, t->b * s->x_stride[0] + i * s->x_stride[1] + channel, n);
  token.raw = FM(scan_read_n)(type, s->step, t->b * s->step_stride[0] + i * s->step_stride[1] + channel, n) +
              FM(scan_read_n)(FM_F32, s->step_bias, channel, n);
  token.step = FM(selective_softplus)(token.raw);
  token.skip = FM(scan_read_n)(FM_F32, s->skip, channel, n);
  return token;
}
FM_INLINE void FM(selective_fetch_from)(const void *base, int64_t element, int64_t bytes, const int to_write) {
  if (to_write) __builtin_prefetch((const char *)base + element * bytes, 1, 3);
  else if (base) __builtin_prefetch((const char *)base + element * bytes, 0, 3);
}

/// Asks for what the next vector of channels needs of this token or, after the last, the first one of the token `chunk` further: a
/// vector goes through a chunk token by token, and rows of all channels lie too far apart for the processor to foresee.
FM_INLINE void FM(selective_fetch)(const fm_type type, const selective_task *t, int64_t i, int64_t c, int64_t chunk) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t bytes = type == FM_F32 ? 4 : 2, next = c + FM_LANES;
  if (next >= t->channels) { next = 0; i += chunk; }
  // A line of the cache may hold several vectors.
  if (i < 0 || i >= s->length || next * bytes % 64) return;
  int64_t own = (t->b * s->length + i) * s->channels + t->first + next, channel = t->first + next;
  FM(selective_fetch_from)(s->x, t->b * s->x_stride[0] + i * s->x_stride[1] + channel, bytes, 0);
  FM(selective_fetch_from)(s->step, t->b * s->step_stride[0] + i * s->step_stride[1] + channel, bytes, 0);
  FM(selective_fetch_from)(s->gate, t->b * s->gate_stride[0] + i * s->gate_stride[1] + channel, bytes, 0);
  FM(selective_fetch_from)(t->doutput, own, bytes, 0);
  if (t->output) FM(selective_fetch_from)(t->output, own, bytes, 1);
}

FM_INLINE vf FM(selective_read_gate)(const fm_type type, const selective_task *t, int64_t i, int64_t c) {
  const fm_selective_scan_shape *s = t->shape;
  return FM(scan_read_n)(type, s->gate, t->b * s->gate_stride[0] + i * s->gate_stride[1] + t->first + c, t->channels - c);
}
FM_INLINE void FM(selective_write)(const fm_type type, const selective_task *t, void *to, int64_t i, int64_t c, vf v) {
  const fm_selective_scan_shape *s = t->shape;
  FM(scan_write_n)(type, to, (t->b * s->length + i) * s->channels + t->first + c, v, t->channels - c);
}
