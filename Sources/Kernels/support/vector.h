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

// How many bytes ahead of what it reads a kernel bound by memory asks for more: measured, and past any buffer's end harmless.
#define FM_AHEAD 12288

#define FM_INLINE static inline __attribute__((always_inline, unused))

FM_INLINE vf FM(v_load)(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
FM_INLINE void FM(v_store)(float *p, vf v) { memcpy(p, &v, sizeof v); }
FM_INLINE vf FM(v_set)(float x) { vf v; for (int i = 0; i < FM_LANES; i++) v[i] = x; return v; }
FM_INLINE vi FM(v_seti)(int32_t x) { vi v; for (int i = 0; i < FM_LANES; i++) v[i] = x; return v; }
/// A store past the caches to an aligned p (see fm_streams); v_fence once after the last of them.
FM_INLINE void FM(v_stream)(float *p, vf v) { __builtin_nontemporal_store(v, (vf *)p); }
FM_INLINE void FM(v_fence)(void) { __sync_synchronize(); }
/// The first n (0...FM_LANES) floats at p, zeros after: never reads past p + n.
#if defined(__x86_64__) && FM_LANES == 16
// Masks, because a call to copy a few bytes would put every vector that is alive around it into memory.
FM_INLINE __mmask16 FM(v_first)(int64_t n) { return (__mmask16)((1u << n) - 1); }
FM_INLINE vf FM(v_load_n)(const float *p, int64_t n) { return (vf)_mm512_maskz_loadu_ps(FM(v_first)(n), p); }
FM_INLINE void FM(v_store_n)(float *p, vf v, int64_t n) { _mm512_mask_storeu_ps(p, FM(v_first)(n), (__m512)v); }
#else
FM_INLINE vf FM(v_load_n)(const float *p, int64_t n) { vf v = FM(v_set)(0); memcpy(&v, p, 4 * (size_t)n); return v; }
FM_INLINE void FM(v_store_n)(float *p, vf v, int64_t n) { memcpy(p, &v, 4 * (size_t)n); }
#endif

/// mask ? a : b, where mask is the result of a comparison. v_max and v_min give b when either is NaN.
#if defined(__x86_64__) && FM_LANES == 16
// The compiler keeps a comparison in a mask register when the mask is asked for by name.
FM_INLINE vf FM(v_select)(vi mask, vf a, vf b) {
  return (vf)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), (__m512)b, (__m512)a);
}
FM_INLINE vf FM(v_max)(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
FM_INLINE vf FM(v_min)(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#else
FM_INLINE vf FM(v_select)(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
FM_INLINE vf FM(v_max)(vf a, vf b) { return FM(v_select)(a > b, a, b); }
FM_INLINE vf FM(v_min)(vf a, vf b) { return FM(v_select)(a < b, a, b); }
#endif
FM_INLINE vf FM(v_abs)(vf a) { return (vf)((vi)a & FM(v_seti)(0x7fffffff)); }

FM_INLINE vf FM(v_fma)(vf a, vf b, vf c) {
#pragma clang fp contract(fast)
  return a * b + c;
}
/// Sum of all lanes, pairwise: halves, quarters, eighths, on every path.
FM_INLINE float FM(v_sum)(vf v) {
#if defined(__x86_64__) && FM_LANES == 16
  return _mm512_reduce_add_ps((__m512)v);
#else
  for (int half = FM_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  return v[0];
#endif
}
FM_INLINE float FM(v_reduce_max)(vf v) {
#if defined(__x86_64__) && FM_LANES == 16
  return _mm512_reduce_max_ps((__m512)v);
#else
  for (int half = FM_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
  return v[0];
#endif
}

// bf16: the upper half of an f32, rounded to nearest even; NaN stays NaN.
FM_INLINE vf FM(v_load_bf16)(const uint16_t *p) {
  vh h; memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vi) << 16);
}
FM_INLINE vf FM(v_load_bf16_n)(const uint16_t *p, int64_t n) {
#if defined(__x86_64__) && FM_LANES == 16
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(FM(v_first)(n), p)), 16);
#else
  vh h = {0}; memcpy(&h, p, 2 * (size_t)n);
  return (vf)(__builtin_convertvector(h, vi) << 16);
#endif
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
FM_INLINE void FM(v_store_bf16_n)(uint16_t *p, vf v, int64_t n) {
  vh h = FM(v_to_bf16)(v);
#if defined(__x86_64__) && FM_LANES == 16
  _mm256_mask_storeu_epi16(p, FM(v_first)(n), (__m256i)h);
#else
  memcpy(p, &h, 2 * (size_t)n);
#endif
}

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
/// (Cephes expf's coefficients, Moshier 1984), then 2^n. Below -87.3 the result is 0; above 88.37 it is infinity (with
/// 16 lanes, above 88.72); NaN stays NaN.
FM_INLINE vf FM(v_exp)(vf x) {
#pragma clang fp contract(fast)
#if defined(__x86_64__) && FM_LANES == 16
  // 2^n by the instruction that scales by a power of two, which overflows to infinity by itself.
  __mmask16 counts = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ);
  x = FM(v_min)(FM(v_set)(89.0f), x);
  vf n = (vf)_mm512_roundscale_ps((__m512)(x * FM(v_set)(1.44269504088896341f)), 8);
#else
  vf n = x * FM(v_set)(1.44269504088896341f);
  // Round to the nearest integer by adding and taking away 1.5 * 2^23.
  vf magic = FM(v_set)(12582912.0f);
  n = (n + magic) - magic;
#endif
  vf r = x - n * FM(v_set)(0.693359375f);
  r = r + n * FM(v_set)(2.12194440e-4f);
  vf p = FM(v_set)(1.9875691500e-4f);
  p = p * r + FM(v_set)(1.3981999507e-3f);
  p = p * r + FM(v_set)(8.3334519073e-3f);
  p = p * r + FM(v_set)(4.1665795894e-2f);
  p = p * r + FM(v_set)(1.6666665459e-1f);
  p = p * r + FM(v_set)(5.0000001201e-1f);
  p = p * (r * r) + r + FM(v_set)(1.0f);
#if defined(__x86_64__) && FM_LANES == 16
  return (vf)_mm512_maskz_scalef_ps(counts, (__m512)p, (__m512)n);
#else
  vi inside = (vi)(x > FM(v_set)(-87.3f)) & (vi)(x < FM(v_set)(88.37f));
  vi exponent = __builtin_convertvector(FM(v_select)(inside, n, FM(v_set)(0)), vi);
  vf result = p * (vf)((exponent + FM(v_seti)(127)) << 23);
  result = FM(v_select)(x <= FM(v_set)(-87.3f), FM(v_set)(0), result);
  result = FM(v_select)(x >= FM(v_set)(88.37f), FM(v_set)(INFINITY), result);
  return FM(v_select)(x != x, x, result);
#endif
}

/// 2^x, for x far above 0 only with 16 lanes; -infinity gives 0. A polynomial on [-1/2, 1/2] fitted at Chebyshev's points,
/// relative error 1e-7, or 3e-6 for `half`, where the result is rounded to bf16 anyway.
FM_INLINE vf FM(v_exp2)(const int half, vf x) {
#if defined(__x86_64__) && FM_LANES == 16
  // The rest of rounding is 0 for infinities, whose power the scaling gets right.
  vf n = (vf)_mm512_roundscale_ps((__m512)x, 0), r = (vf)_mm512_reduce_ps((__m512)x, 0), p;
#else
  x = FM(v_max)(FM(v_set)(-160.0f), x);  // a NaN stays
  x = FM(v_select)(FM(v_set)(127.0f) < x, FM(v_set)(127.0f), x);
  vf magic = FM(v_set)(12582912.0f);
  vf n = (x + magic) - magic, r = x - n, p;
#endif
  if (half) {
    p = FM(v_fma)(r, FM(v_set)(9.560510206479316e-3f), FM(v_set)(5.59170391748701e-2f));
    p = FM(v_fma)(r, p, FM(v_set)(0.24024981109537327f));
    p = FM(v_fma)(r, p, FM(v_set)(0.693121967696062f));
  } else {
    p = FM(v_fma)(r, FM(v_set)(1.326697038639561e-3f), FM(v_set)(9.675459745517027e-3f));
    p = FM(v_fma)(r, p, FM(v_set)(5.550742616002395e-2f));
    p = FM(v_fma)(r, p, FM(v_set)(0.24022121753561743f));
    p = FM(v_fma)(r, p, FM(v_set)(0.6931469491610648f));
  }
  p = FM(v_fma)(r, p, FM(v_set)(1.0f));
#if defined(__x86_64__) && FM_LANES == 16
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  vf small = FM(v_set)(-126.0f);
  vi tiny = (vi)(n < small);
  vi exponent = __builtin_convertvector(FM(v_select)(tiny, small, n), vi);
  return FM(v_select)(tiny, FM(v_set)(0), p * (vf)((exponent + FM(v_seti)(127)) << 23));
#endif
}

/// 1 / x for finite x between 2^-125 and 2^125, to about a unit in the last place.
FM_INLINE vf FM(v_reciprocal)(vf x) {
#if defined(__x86_64__) && FM_LANES == 16
  // 14 bits, then one step of Newton's: less than half a division's time.
  vf y = (vf)_mm512_rcp14_ps((__m512)x);
  return FM(v_fma)(y, FM(v_fma)(-x, y, FM(v_set)(1.0f)), y);
#else
  return FM(v_set)(1.0f) / x;
#endif
}

/// 1 / (1 + e^-x); below -86 it is 0.
FM_INLINE vf FM(v_sigmoid)(vf x) {
#if defined(__x86_64__) && FM_LANES == 16
  // The quick reciprocal has no subnormal results: where there are some, and that is seldom, divide.
  if (__builtin_expect(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-86.0f), _CMP_LT_OQ) == 0, 1))
    return FM(v_reciprocal)(FM(v_set)(1.0f) + FM(v_exp)(-x));
#endif
  return FM(v_set)(1.0f) / (FM(v_set)(1.0f) + FM(v_exp)(-x));
}

/// tanh x = sign(x) (1 - 2 / (e^{2|x|} + 1)); a short odd polynomial near zero keeps the relative error small.
FM_INLINE vf FM(v_tanh)(vf x) {
#pragma clang fp contract(fast)
  vf a = FM(v_abs)(x);
  vf big = FM(v_set)(1.0f) - FM(v_set)(2.0f) * FM(v_reciprocal)(FM(v_exp)(FM(v_min)(FM(v_set)(40.0f), a + a)) + FM(v_set)(1.0f));
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
