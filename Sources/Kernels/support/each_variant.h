// Compiles the file named by FM_FILE once for every processor path.
//
// A kernel source looks like this:
//
//     #include "fermata_norm.h"
//     #ifdef FM_VARIANT
//     static void FM(double_it)(float *x, int64_t n) { ... }        // plain loops or vectors of support/vector.h
//     #else
//     #define FM_FILE "../norm.c"
//     #include "support/each_variant.h"
//     void fm_double_it(float *x, int64_t n) { FM_CALL(double_it)(x, n); }
//     #endif
//
// FM(name) is the name with the variant's suffix; FM_LANES the floats in a vector; FM_BF16_INSTRUCTIONS is 1
// where bf16 dot products exist. FM_CALL(name) picks the variant that serves the path in use.
#include "fermata_runtime.h"

#define FM_PASTE_(a, b) a##_##b
#define FM_PASTE(a, b) FM_PASTE_(a, b)
#define FM(name) FM_PASTE(name, FM_VARIANT)

#define FM_VARIANT portable
#define FM_LANES 4
#define FM_BF16_INSTRUCTIONS 0
#include "support/vector.h"
#include FM_FILE
#undef FM_VARIANT
#undef FM_LANES
#undef FM_BF16_INSTRUCTIONS

#if defined(__x86_64__)
#define FM_VARIANT avx2
#define FM_LANES 8
#define FM_BF16_INSTRUCTIONS 0
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "support/vector.h"
#include FM_FILE
#pragma clang attribute pop
#undef FM_VARIANT
#undef FM_LANES
#undef FM_BF16_INSTRUCTIONS

#define FM_AVX512_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#define FM_VARIANT avx512
#define FM_LANES 16
#define FM_BF16_INSTRUCTIONS 0
#pragma clang attribute push(__attribute__((target(FM_AVX512_TARGET), min_vector_width(512))), apply_to = function)
#include "support/vector.h"
#include FM_FILE
#pragma clang attribute pop
#undef FM_VARIANT
#undef FM_LANES
#undef FM_BF16_INSTRUCTIONS

#define FM_VARIANT avx512_bf16
#define FM_LANES 16
#define FM_BF16_INSTRUCTIONS 1
#pragma clang attribute push(__attribute__((target(FM_AVX512_TARGET ",avx512bf16"), min_vector_width(512))), apply_to = function)
#include "support/vector.h"
#include FM_FILE
#pragma clang attribute pop
#undef FM_VARIANT
#undef FM_LANES
#undef FM_BF16_INSTRUCTIONS

#define FM_CALL(name) FM_CALL_OF(fm_variant(), name)
#define FM_CALL_OF(variant, name)                                                            \
  (*((variant) == FM_AVX512_BF16 ? name##_avx512_bf16 : (variant) == FM_AVX512 ? name##_avx512 \
     : (variant) == FM_AVX2      ? name##_avx2 : name##_portable))
#else
#define FM_CALL(name) (*name##_portable)
#endif
