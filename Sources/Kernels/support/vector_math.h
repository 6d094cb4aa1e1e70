// More functions on vectors of floats: logarithm, error function, sine and cosine.
//
// Included after support/vector.h, once per processor path; accurate to a few units in the last place.
#ifndef FM_VARIANT
#error "support/vector_math.h is for code compiled once per processor path"
#endif

FM_INLINE vf FM(v_sqrt)(vf x) { return __builtin_elementwise_sqrt(x); }

/// Natural logarithm: x = m 2^e with m in [sqrt 1/2, sqrt 2), a polynomial in m - 1 (Cephes logf's coefficients, Moshier 1984).
/// log 0 is minus infinity, negative numbers and NaN give NaN; subnormal numbers are exact inputs too.
FM_INLINE vf FM(v_log)(vf x) {
#pragma clang fp contract(fast)
  vi tiny = (vi)(x < FM(v_set)(1.17549435e-38f));
  vf scaled = FM(v_select)(tiny, x * FM(v_set)(8388608.0f), x);
  vi bits = (vi)scaled;
  // Subtracting sqrt(1/2)'s bits leaves the exponent in the upper 9 bits and puts m into [sqrt 1/2, sqrt 2).
  vi shifted = bits - FM(v_seti)(0x3f3504f3);
  vf e = __builtin_convertvector(shifted >> 23, vf);
  e = e - FM(v_select)(tiny, FM(v_set)(23.0f), FM(v_set)(0));
  vf m = (vf)((shifted & FM(v_seti)(0x007fffff)) + FM(v_seti)(0x3f3504f3)) - FM(v_set)(1.0f);
  vf z = m * m;
  vf p = FM(v_set)(7.0376836292e-2f);
  p = p * m + FM(v_set)(-1.1514610310e-1f);
  p = p * m + FM(v_set)(1.1676998740e-1f);
  p = p * m + FM(v_set)(-1.2420140846e-1f);
  p = p * m + FM(v_set)(1.4249322787e-1f);
  p = p * m + FM(v_set)(-1.6668057665e-1f);
  p = p * m + FM(v_set)(2.0000714765e-1f);
  p = p * m + FM(v_set)(-2.4999993993e-1f);
  p = p * m + FM(v_set)(3.3333331174e-1f);
  vf y = p * m * z + e * FM(v_set)(-2.12194440e-4f) - z * FM(v_set)(0.5f);
  vf result = m + y + e * FM(v_set)(0.693359375f);
  result = FM(v_select)(x == FM(v_set)(0), FM(v_set)(-INFINITY), result);
  result = FM(v_select)(x < FM(v_set)(0), FM(v_set)(NAN), result);
  result = FM(v_select)(x == FM(v_set)(INFINITY), x, result);
  return FM(v_select)(x != x, x, result);
}

/// log(1 + x): the rounding error of u = 1 + x is undone by the factor x / (u - 1) (Kahan's identity).
FM_INLINE vf FM(v_log1p)(vf x) {
#pragma clang fp contract(off)
  vf u = FM(v_set)(1.0f) + x;
  vf d = u - FM(v_set)(1.0f);
  vf result = FM(v_log)(u) * (x / d);
  result = FM(v_select)(d == FM(v_set)(0), x, result);
  return FM(v_select)(x == FM(v_set)(INFINITY), x, result);
}

/// Error function: an odd polynomial below 1 and 1 - e^q(|x|) above, where q fits log(erfc) on [1, 4].
/// Both polynomials interpolate at Chebyshev nodes.
FM_INLINE vf FM(v_erf)(vf x) {
#pragma clang fp contract(fast)
  vf a = FM(v_abs)(x);
  vf z = x * x;
  vf s = FM(v_set)(7.875875057e-05f);
  s = s * z + FM(v_set)(-8.016864285e-04f);
  s = s * z + FM(v_set)(5.189087423e-03f);
  s = s * z + FM(v_set)(-2.685421201e-02f);
  s = s * z + FM(v_set)(1.128359472e-01f);
  s = s * z + FM(v_set)(-3.761262667e-01f);
  s = s * z + FM(v_set)(1.128379166e+00f);
  s = s * x;
  vf t = FM(v_min)(a, FM(v_set)(4.0f));
  vf q = FM(v_set)(1.637151416e-06f);
  q = q * t + FM(v_set)(-4.605804271e-05f);
  q = q * t + FM(v_set)(5.968056258e-04f);
  q = q * t + FM(v_set)(-4.759596294e-03f);
  q = q * t + FM(v_set)(2.642113601e-02f);
  q = q * t + FM(v_set)(-1.100800830e-01f);
  q = q * t + FM(v_set)(-6.318260516e-01f);
  q = q * t + FM(v_set)(-1.130233435e+00f);
  q = q * t + FM(v_set)(3.201380501e-04f);
  vf big = FM(v_set)(1.0f) - FM(v_exp)(q);
  big = (vf)((vi)big | ((vi)x & FM(v_seti)((int32_t)0x80000000)));
  vf result = FM(v_select)(a < FM(v_set)(1.0f), s, big);
  return FM(v_select)(x != x, x, result);
}

/// Sine and cosine. The angle is reduced to [-pi/4, pi/4] in double precision, which holds up to 2^20;
/// a vector that has a larger or non-finite lane goes through the C library.
FM_INLINE void FM(v_sincos)(vf x, vf *sine, vf *cosine) {
#pragma clang fp contract(fast)
  if (!(FM(v_reduce_max)(FM(v_select)(FM(v_abs)(x) < FM(v_set)(1048576.0f), FM(v_set)(0), FM(v_set)(1))) == 0)) {
    for (int i = 0; i < FM_LANES; i++) {
      (*sine)[i] = sinf(x[i]);
      (*cosine)[i] = cosf(x[i]);
    }
    return;
  }
  typedef double vd __attribute__((vector_size(8 * FM_LANES)));
  vd wide = __builtin_convertvector(x, vd);
  vf turns = x * FM(v_set)(0.636619772f);
  vf magic = FM(v_set)(12582912.0f);
  turns = (turns + magic) - magic;
  vi quadrant = __builtin_convertvector(turns, vi);
  vd n = __builtin_convertvector(turns, vd);
  // pi / 2 in two parts; the first has 31 bits, so n times it is exact.
  wide = wide - n * 1.5707963267341256;
  wide = wide - n * 6.077100506506192e-11;
  vf r = __builtin_convertvector(wide, vf);
  vf z = r * r;
  // Cephes sinf and cosf (Moshier 1984).
  vf s = FM(v_set)(-1.9515295891e-4f);
  s = s * z + FM(v_set)(8.3321608736e-3f);
  s = s * z + FM(v_set)(-1.6666654611e-1f);
  s = s * z * r + r;
  vf c = FM(v_set)(2.443315711809948e-5f);
  c = c * z + FM(v_set)(-1.388731625493765e-3f);
  c = c * z + FM(v_set)(4.166664568298827e-2f);
  c = c * z * z - FM(v_set)(0.5f) * z + FM(v_set)(1.0f);
  vi swap = (quadrant & FM(v_seti)(1)) != FM(v_seti)(0);
  vi sine_sign = (quadrant & FM(v_seti)(2)) << 30;
  vi cosine_sign = ((quadrant + FM(v_seti)(1)) & FM(v_seti)(2)) << 30;
  *sine = (vf)((vi)FM(v_select)(swap, c, s) ^ sine_sign);
  *cosine = (vf)((vi)FM(v_select)(swap, s, c) ^ cosine_sign);
}

/// The larger (smaller) of two numbers; NaN when either is NaN.
FM_INLINE vf FM(v_maximum)(vf a, vf b) { return FM(v_select)((vi)(a > b) | (vi)(a != a), a, b); }
FM_INLINE vf FM(v_minimum)(vf a, vf b) { return FM(v_select)((vi)(a < b) | (vi)(a != a), a, b); }
