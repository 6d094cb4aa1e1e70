// The sigmoid for kernels that multiply it with what it is taken of. Included once per processor path.

/// s(z) = 1 / (1 + e^-z) with a relative error below 5e-7, for z s(z) and its slope: 0 below -87, where e^-z is about to overflow
/// (so z s(z) is 0 for any finite z there), and of NaN some number. e^-z as in v_exp, but within the bounds neither
/// it nor its reciprocal leaves the normal numbers, so that v_exp's and v_sigmoid's exceptions are not needed.
FM_INLINE vf FM(silu_sigmoid)(vf z) {
#pragma clang fp contract(fast)
  vf least = FM(v_set)(-87.0f), one = FM(v_set)(1.0f);
#if defined(__x86_64__) && FM_LANES == 16
  // The smaller magnitude of the two, with z's sign. With fused products the nearest f32 to ln 2 is exact enough: n is small.
  vf x = (vf)_mm512_range_ps((__m512)z, (__m512)least, 2);
  vf n = (vf)_mm512_roundscale_ps((__m512)(x * FM(v_set)(-1.44269504088896341f)), 8);
  vf r = n * FM(v_set)(-0.69314718055994531f) - x;
#else
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the lowest bits.
  vf x = FM(v_min)(FM(v_max)(z, least), -least), magic = FM(v_set)(12582912.0f);
  vf count = x * FM(v_set)(-1.44269504088896341f) + magic, n = count - magic;
  vf r = n * FM(v_set)(-0.693359375f) - x;
  r = r + n * FM(v_set)(2.12194440e-4f);
#endif
  // (e^r - 1 - r) / r^2 where |r| <= ln 2 / 2, with the least relative error of e^r: 1.1e-7.
  vf p = FM(v_set)(8.31247766e-3f);
  p = p * r + FM(v_set)(4.18905502e-2f);
  p = p * r + FM(v_set)(1.66671163e-1f);
  p = p * r + FM(v_set)(4.99992288e-1f);
  p = p * r + one;
  p = p * r + one;
#if defined(__x86_64__) && FM_LANES == 16
  vf e = (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  vf e = (vf)((vi)p + ((vi)count << 23));
#endif
  return FM(v_select)(z < least, FM(v_set)(0), FM(v_reciprocal)(one + e));
}
