// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011), uniform and normal draws.
#include "fermata_elementwise.h"
#ifdef FM_VARIANT
#include "support/vector_math.h"

#undef vu
#undef vl
#define vu FM(vector_unsigned)
#define vl FM(vector_long)
typedef uint32_t vu __attribute__((vector_size(4 * FM_LANES)));
typedef uint64_t vl __attribute__((vector_size(8 * FM_LANES)));

FM_INLINE vu FM(multiply_high_low)(vu a, uint32_t constant, vu *low) {
  vl product = __builtin_convertvector(a, vl) * (uint64_t)constant;
  *low = __builtin_convertvector(product, vu);
  return __builtin_convertvector(product >> 32, vu);
}

// Words of FM_LANES consecutive blocks: out[w][k] is word w of block first + k.
FM_INLINE void FM(philox)(uint64_t seed, uint64_t stream, uint64_t first, vu out[4]) {
  vl block = {0};
  for (int k = 0; k < FM_LANES; k++) block[k] = first + (uint64_t)k;
  vu c0 = __builtin_convertvector(block, vu), c1 = __builtin_convertvector(block >> 32, vu);
  vu c2 = (vu){0} + (uint32_t)stream, c3 = (vu){0} + (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    vu low0, low1;
    vu high0 = FM(multiply_high_low)(c0, 0xD2511F53u, &low0), high1 = FM(multiply_high_low)(c2, 0xCD9E8D57u, &low1);
    c0 = high1 ^ c1 ^ k0;
    c2 = high0 ^ c3 ^ k1;
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}

// Uniform in [0, 1) of 24 bits.
FM_INLINE vf FM(unit)(vu bits) { return __builtin_convertvector((vi)(bits >> 8), vf) * FM(v_set)(0x1p-24f); }

// Box and Muller (1958): (0, 1] keeps the logarithm finite.
FM_INLINE void FM(normal_pair)(vu a, vu b, vf *x, vf *y) {
  vf u = FM(unit)(a) + FM(v_set)(0x1p-24f);
  vf radius = FM(v_sqrt)(FM(v_set)(-2.0f) * FM(v_log)(u));
  vf sine, cosine;
  FM(v_sincos)(FM(unit)(b) * FM(v_set)(6.283185307f), &sine, &cosine);
  *x = radius * cosine;
  *y = radius * sine;
}

#undef vu2
#undef vu4
#define vu2 FM(vector_unsigned_2)
#define vu4 FM(vector_unsigned_4)
typedef uint32_t vu2 __attribute__((vector_size(8 * FM_LANES)));
typedef uint32_t vu4 __attribute__((vector_size(16 * FM_LANES)));
// WEAVE(a, b) is a0 b0 a1 b1 ...
#define PAIR(n, i) i, (n) + (i)
#define PAIRS_4(n, i) PAIR(n, i), PAIR(n, (i) + 1), PAIR(n, (i) + 2), PAIR(n, (i) + 3)
#define PAIRS_8(n, i) PAIRS_4(n, i), PAIRS_4(n, (i) + 4)
#define PAIRS_16(n, i) PAIRS_8(n, i), PAIRS_8(n, (i) + 8)
#if FM_LANES == 16
#define WEAVE(a, b) __builtin_shufflevector(a, b, PAIRS_16(16, 0))
#define WEAVE_2(a, b) __builtin_shufflevector(a, b, PAIRS_16(32, 0), PAIRS_16(32, 16))
#elif FM_LANES == 8
#define WEAVE(a, b) __builtin_shufflevector(a, b, PAIRS_8(8, 0))
#define WEAVE_2(a, b) __builtin_shufflevector(a, b, PAIRS_16(16, 0))
#else
#define WEAVE(a, b) __builtin_shufflevector(a, b, PAIRS_4(4, 0))
#define WEAVE_2(a, b) __builtin_shufflevector(a, b, PAIRS_8(8, 0))
#endif

// The four words of each block next to each other.
FM_INLINE void FM(weave)(const vu word[4], uint32_t *y) {
  vu2 even = WEAVE(word[0], word[2]), odd = WEAVE(word[1], word[3]);
  vu4 all = WEAVE_2(even, odd);
  memcpy(y, &all, sizeof all);
}
#undef PAIR
#undef PAIRS_4
#undef PAIRS_8
#undef PAIRS_16
#undef WEAVE
#undef WEAVE_2

// kind 0: bits, 1: uniform, 2: normal. Writes draws first ..< first + count of the stream.
static void FM(draw)(int kind, uint64_t seed, uint64_t stream, uint64_t first, uint32_t *y, int64_t count) {
  uint32_t buffer[4 * FM_LANES];
  uint64_t position = first;
  int64_t done = 0;
  while (done < count) {
    vu word[4];
    FM(philox)(seed, stream, position / 4, word);
    if (kind == 1) {
      for (int w = 0; w < 4; w++) word[w] = (vu)FM(unit)(word[w]);
    } else if (kind == 2) {
      vf a, b;
      for (int w = 0; w < 4; w += 2) {
        FM(normal_pair)(word[w], word[w + 1], &a, &b);
        word[w] = (vu)a;
        word[w + 1] = (vu)b;
      }
    }
    int64_t skip = (int64_t)(position % 4), n = 4 * FM_LANES - skip;
    uint32_t *target = skip == 0 && count - done >= n ? y + done : buffer;
    FM(weave)(word, target);
    if (n > count - done) n = count - done;
    if (target == buffer) memcpy(y + done, buffer + skip, 4 * (size_t)n);
    done += n;
    position += (uint64_t)n;
  }
}

#else
#define FM_FILE "../random.c"
#include "support/each_variant.h"
#include "support/strided.h"

typedef struct {
  int kind;
  uint64_t seed, stream, first;
  uint32_t *y;
  int64_t count;
} draw_task;

static void draw_item(void *context, int64_t item) {
  const draw_task *t = context;
  int64_t start = item * FM_GRAIN, n = t->count - start < FM_GRAIN ? t->count - start : FM_GRAIN;
  FM_CALL(draw)(t->kind, t->seed, t->stream, t->first + (uint64_t)start, t->y + start, n);
}

static void draw(int kind, uint64_t seed, uint64_t stream, uint64_t first, void *y, int64_t count) {
  draw_task t = {kind, seed, stream, first, y, count};
  int64_t items = (count + FM_GRAIN - 1) / FM_GRAIN;
  if (items <= 1) { if (items == 1) draw_item(&t, 0); return; }
  fm_parallel(items, draw_item, &t);
}

void fm_random_bits(uint64_t seed, uint64_t stream, uint64_t first, uint32_t *y, int64_t count) {
  draw(0, seed, stream, first, y, count);
}
void fm_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, float *y, int64_t count) {
  draw(1, seed, stream, first, y, count);
}
void fm_random_normal(uint64_t seed, uint64_t stream, uint64_t first, float *y, int64_t count) {
  draw(2, seed, stream, first, y, count);
}
#endif
