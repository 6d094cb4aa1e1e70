// Vectors of floats whose width is the compiled variant's: one source, three processor paths.
//
// Inside a variant (see each_variant.h) `vf` is a vector of FM_LANES floats, `vi` of as many int32.
// Plain operators work on them (they are GCC vector types); the functions below cover the rest.
#ifndef FM_VARIANT
#error "support/vector.h is for code compiled once per processor path"
#endif
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) && FM_LANES > 4
#include <immintrin.h>
#endif

#undef vf
#undef vi
#undef vh
#define vf FM(vector_float)
#define vi FM(vector_int)
#define vh FM(vector_half)
typedef float vf __attribute__((vector_size(4 * FM_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * FM_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * FM_LANES)));

#define FM_INLINE static inline __attribute__((always_inline, unused))

FM_INLINE vf FM(v_load)(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
FM_INLINE void FM(v_store)(float *p, vf v) { memcpy(p, &v, sizeof v); }
FM_INLINE vf FM(v_set)(float x) { vf v; for (int i = 0; i < FM_LANES; i++) v[i] = x; return v; }
FM_INLINE vi FM(v_seti)(int32_t x) { vi v; for (int i = 0; i < FM_LANES; i++) v[i] = x; return v; }
/// The first n (0...FM_LANES) floats at p, zeros after: never reads past p + n.
FM_INLINE vf FM(v_load_n)(const float *p, int64_t n) { vf v = FM(v_set)(0); memcpy(&v, p, 4 * (size_t)n); return v; }
FM_INLINE void FM(v_store_n)(float *p, vf v, int64_t n) { memcpy(p, &v, 4 * (size_t)n); }

/// mask ? a : b, where mask is the result of a comparison.
FM_INLINE vf FM(v_select)(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
FM_INLINE vf FM(v_max)(vf a, vf b) { return FM(v_select)(a > b, a, b); }
FM_INLINE vf FM(v_min)(vf a, vf b) { return FM(v_select)(a < b, a, b); }
FM_INLINE vf FM(v_abs)(vf a) { return (vf)((vi)a & FM(v_seti)(0x7fffffff)); }

FM_INLINE vf FM(v_fma)(vf a, vf b, vf c) {
#pragma clang fp contract(fast)
  return a * b + c;
}
/// Sum of all lanes, pairwise.
FM_INLINE float FM(v_sum)(vf v) {
  for (int half = FM_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  return v[0];
}
FM_INLINE float FM(v_reduce_max)(vf v) {
  for (int half = FM_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
  return v[0];
}

// bf16: the upper half of an f32, rounded to nearest even; NaN stays NaN.
FM_INLINE vf FM(v_load_bf16)(const uint16_t *p) {
  vh h; memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vi) << 16);
}
FM_INLINE vf FM(v_load_bf16_n)(const uint16_t *p, int64_t n) {
  vh h = {0}; memcpy(&h, p, 2 * (size_t)n);
  return (vf)(__builtin_convertvector(h, vi) << 16);
}
FM_INLINE vh FM(v_to_bf16)(vf v) {
#if FM_BF16_INSTRUCTIONS
  __m256bh b = _mm512_cvtneps_pbh((__m512)v);
  vh h; memcpy(&h, &b, sizeof h); return h;
#else
  vi bits = (vi)v;
  vi odd = (bits >> 16) & FM(v_seti)(1);
  vi rounded = bits + FM(v_seti)(0x7fff) + odd;
  vi quiet = bits | FM(v_seti)(0x400000);
  vi is_nan = (vi)(v != v);
  bits = (is_nan & quiet) | (~is_nan & rounded);
  return __builtin_convertvector((bits >> 16) & FM(v_seti)(0xffff), vh);
#endif
}
FM_INLINE void FM(v_store_bf16)(uint16_t *p, vf v) { vh h = FM(v_to_bf16)(v); memcpy(p, &h, sizeof h); }
FM_INLINE void FM(v_store_bf16_n)(uint16_t *p, vf v, int64_t n) { vh h = FM(v_to_bf16)(v); memcpy(p, &h, 2 * (size_t)n); }

/// Loads and stores by element type (FM_F32 or FM_BF16); `i` is an element index. With a constant type these fold away.
FM_INLINE vf FM(v_read)(fm_type type, const void *base, int64_t i) {
  return type == FM_BF16 ? FM(v_load_bf16)((const uint16_t *)base + i) : FM(v_load)((const float *)base + i);
}
FM_INLINE vf FM(v_read_n)(fm_type type, const void *base, int64_t i, int64_t n) {
  return type == FM_BF16 ? FM(v_load_bf16_n)((const uint16_t *)base + i, n) : FM(v_load_n)((const float *)base + i, n);
}
FM_INLINE void FM(v_write)(fm_type type, void *base, int64_t i, vf v) {
  if (type == FM_BF16) FM(v_store_bf16)((uint16_t *)base + i, v); else FM(v_store)((float *)base + i, v);
}
FM_INLINE void FM(v_write_n)(fm_type type, void *base, int64_t i, vf v, int64_t n) {
  if (type == FM_BF16) FM(v_store_bf16_n)((uint16_t *)base + i, v, n); else FM(v_store_n)((float *)base + i, v, n);
}

/// e^x to about 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 in r
/// (Cephes expf's coefficients, Moshier 1984), then 2^n. Below -87.3 the result is 0; above 88.37 it is infinity; NaN stays NaN.
FM_INLINE vf FM(v_exp)(vf x) {
#pragma clang fp contract(fast)
  vf n = x * FM(v_set)(1.44269504088896341f);
  // Round to the nearest integer by adding and taking away 1.5 * 2^23.
  vf magic = FM(v_set)(12582912.0f);
  n = (n + magic) - magic;
  vf r = x - n * FM(v_set)(0.693359375f);
  r = r + n * FM(v_set)(2.12194440e-4f);
  vf p = FM(v_set)(1.9875691500e-4f);
  p = p * r + FM(v_set)(1.3981999507e-3f);
  p = p * r + FM(v_set)(8.3334519073e-3f);
  p = p * r + FM(v_set)(4.1665795894e-2f);
  p = p * r + FM(v_set)(1.6666665459e-1f);
  p = p * r + FM(v_set)(5.0000001201e-1f);
  p = p * (r * r) + r + FM(v_set)(1.0f);
  vi inside = (vi)(x > FM(v_set)(-87.3f)) & (vi)(x < FM(v_set)(88.37f));
  vi exponent = __builtin_convertvector(FM(v_select)(inside, n, FM(v_set)(0)), vi);
  vf result = p * (vf)((exponent + FM(v_seti)(127)) << 23);
  result = FM(v_select)(x <= FM(v_set)(-87.3f), FM(v_set)(0), result);
  result = FM(v_select)(x >= FM(v_set)(88.37f), FM(v_set)(INFINITY), result);
  return FM(v_select)(x != x, x, result);
}

/// 1 / (1 + e^-x)
FM_INLINE vf FM(v_sigmoid)(vf x) { return FM(v_set)(1.0f) / (FM(v_set)(1.0f) + FM(v_exp)(-x)); }

/// tanh x = sign(x) (1 - 2 / (e^{2|x|} + 1)); a short odd polynomial near zero keeps the relative error small.
FM_INLINE vf FM(v_tanh)(vf x) {
#pragma clang fp contract(fast)
  vf a = FM(v_abs)(x);
  vf big = FM(v_set)(1.0f) - FM(v_set)(2.0f) / (FM(v_exp)(a + a) + FM(v_set)(1.0f));
  vi sign = (vi)x & FM(v_seti)((int32_t)0x80000000);
  big = (vf)((vi)big | sign);
  // Cephes tanhf's polynomial for |x| < 0.625.
  vf z = x * x;
  vf p = FM(v_set)(-5.70498872745e-3f);
  p = p * z + FM(v_set)(2.06390887954e-2f);
  p = p * z + FM(v_set)(-5.37397155531e-2f);
  p = p * z + FM(v_set)(1.33314422036e-1f);
  p = p * z + FM(v_set)(-3.33332819422e-1f);
  vf small = p * z * x + x;
  return FM(v_select)(a < FM(v_set)(0.625f), small, big);
}
