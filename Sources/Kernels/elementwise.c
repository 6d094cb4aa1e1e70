// Element-wise operations on one, two or three arrays: f32 and bf16 in vectors, integers in plain loops.
#include "fermata_elementwise.h"
#ifdef FM_VARIANT
#include "support/vector_math.h"

// log(1 + e^-|x|), the part that softplus and log-sigmoid share.
FM_INLINE vf FM(log_one_plus_exp)(vf x) { return FM(v_log1p)(FM(v_exp)(-FM(v_abs)(x))); }

FM_INLINE vf FM(gelu_tanh)(vf x) {
  vf inner = FM(v_set)(0.7978845608f) * (x + FM(v_set)(0.044715f) * x * x * x);
  return FM(v_set)(0.5f) * x * (FM(v_set)(1.0f) + FM(v_tanh)(inner));
}

FM_INLINE vf FM(sine_or_cosine)(vf x, int want_sine) {
  vf sine, cosine;
  FM(v_sincos)(x, &sine, &cosine);
  return want_sine ? sine : cosine;
}

FM_INLINE vf FM(unary_value)(fm_unary op, vf x) {
  const vf zero = FM(v_set)(0), one = FM(v_set)(1.0f);
  switch (op) {
    case FM_NEGATE: return -x;
    case FM_ABSOLUTE: return FM(v_abs)(x);
    case FM_EXP: return FM(v_exp)(x);
    case FM_LOG: return FM(v_log)(x);
    case FM_LOG1P: return FM(v_log1p)(x);
    case FM_SQRT: return FM(v_sqrt)(x);
    case FM_RECIPROCAL_SQRT: return one / FM(v_sqrt)(x);
    case FM_RECIPROCAL: return one / x;
    case FM_SQUARE: return x * x;
    case FM_SIGMOID: return FM(v_sigmoid)(x);
    case FM_LOG_SIGMOID: return FM(v_minimum)(x, zero) - FM(log_one_plus_exp)(x);
    case FM_TANH: return FM(v_tanh)(x);
    // Where e^-x is infinite the product would be x * 0; minus zero is the limit from below, and x = -inf must not give NaN.
    case FM_SILU: return FM(v_select)(x < FM(v_set)(-88.0f), -zero, x * FM(v_sigmoid)(x));
    case FM_SOFTPLUS: return FM(v_maximum)(x, zero) + FM(log_one_plus_exp)(x);
    case FM_RELU: return FM(v_select)(x <= zero, zero, x);
    case FM_GELU: return FM(v_set)(0.5f) * x * (one + FM(v_erf)(x * FM(v_set)(0.70710678f)));
    case FM_GELU_TANH: return FM(gelu_tanh)(x);
    case FM_SINE: return FM(sine_or_cosine)(x, 1);
    case FM_COSINE: return FM(sine_or_cosine)(x, 0);
    case FM_SIGN: return FM(v_select)(x > zero, one, FM(v_select)(x < zero, -one, x));
    case FM_ERF: return FM(v_erf)(x);
    case FM_SILU_SLOPE: {
      // Beyond 88 it is 0 or 1 to every digit, and an infinite x must not give NaN.
      vf s = FM(v_sigmoid)(x), slope = s * (one + x * (one - s));
      return FM(v_select)(x < FM(v_set)(-88.0f), zero, FM(v_select)(x > FM(v_set)(88.0f), one, slope));
    }
    case FM_ELU_PLUS_ONE: return FM(v_select)(x > zero, x + one, FM(v_exp)(x));
    case FM_ELU_PLUS_ONE_SLOPE: return FM(v_select)(x > zero, one, FM(v_exp)(x));
    case FM_GELU_SLOPE: {
      // Beyond 13 the density is zero, and an infinite x must not give NaN.
      vf density = x * FM(v_set)(0.39894228f) * FM(v_exp)(x * x * FM(v_set)(-0.5f));
      density = FM(v_select)(FM(v_abs)(x) > FM(v_set)(13.0f), zero, density);
      return FM(v_set)(0.5f) * (one + FM(v_erf)(x * FM(v_set)(0.70710678f))) + density;
    }
  }
  return x;
}

FM_INLINE void FM(unary_loop)(fm_unary op, fm_type type, const void *x, void *y, int64_t n) {
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) FM(v_write)(type, y, i, FM(unary_value)(op, FM(v_read)(type, x, i)));
  if (i < n) FM(v_write_n)(type, y, i, FM(unary_value)(op, FM(v_read_n)(type, x, i, n - i)), n - i);
}

static void FM(unary)(fm_unary op, fm_type type, const void *x, void *y, int64_t n) {
#define CASE(op)                                                                       \
  case op:                                                                             \
    if (type == FM_BF16) FM(unary_loop)(op, FM_BF16, x, y, n);                         \
    else FM(unary_loop)(op, FM_F32, x, y, n);                                          \
    return;
  switch (op) {
    CASE(FM_NEGATE) CASE(FM_ABSOLUTE) CASE(FM_EXP) CASE(FM_LOG) CASE(FM_LOG1P) CASE(FM_SQRT)
    CASE(FM_RECIPROCAL_SQRT) CASE(FM_RECIPROCAL) CASE(FM_SQUARE) CASE(FM_SIGMOID) CASE(FM_LOG_SIGMOID)
    CASE(FM_TANH) CASE(FM_SILU) CASE(FM_SOFTPLUS) CASE(FM_RELU) CASE(FM_GELU) CASE(FM_GELU_TANH)
    CASE(FM_SINE) CASE(FM_COSINE) CASE(FM_SIGN) CASE(FM_ERF) CASE(FM_GELU_SLOPE)
    CASE(FM_SILU_SLOPE) CASE(FM_ELU_PLUS_ONE) CASE(FM_ELU_PLUS_ONE_SLOPE)
  }
#undef CASE
}

FM_INLINE vf FM(power)(vf a, vf b) {
  vf y;
  for (int i = 0; i < FM_LANES; i++) y[i] = powf(a[i], b[i]);
  return y;
}

FM_INLINE vf FM(binary_value)(fm_binary op, vf a, vf b) {
  switch (op) {
    case FM_ADD: return a + b;
    case FM_SUBTRACT: return a - b;
    case FM_MULTIPLY: return a * b;
    case FM_DIVIDE: return a / b;
    case FM_MAXIMUM: return FM(v_maximum)(a, b);
    case FM_MINIMUM: return FM(v_minimum)(a, b);
    case FM_POWER: return FM(power)(a, b);
    default: return a;
  }
}

FM_INLINE vi FM(comparison)(fm_binary op, vf a, vf b) {
  switch (op) {
    case FM_EQUAL: return (vi)(a == b);
    case FM_NOT_EQUAL: return (vi)(a != b);
    case FM_LESS: return (vi)(a < b);
    default: return (vi)(a <= b);
  }
}

// Writes either the value in `type` or, for comparisons, bytes. n is FM_LANES or fewer.
FM_INLINE void FM(binary_store)(fm_binary op, fm_type type, vf a, vf b, void *y, int64_t i, int64_t n) {
  if (op >= FM_EQUAL) {
    typedef uint8_t bytes __attribute__((vector_size(FM_LANES)));
    bytes result = __builtin_convertvector(FM(comparison)(op, a, b) & FM(v_seti)(1), bytes);
    memcpy((uint8_t *)y + i, &result, (size_t)n);
  } else if (n == FM_LANES) {
    FM(v_write)(type, y, i, FM(binary_value)(op, a, b));
  } else {
    FM(v_write_n)(type, y, i, FM(binary_value)(op, a, b), n);
  }
}

// a_one and b_one: that operand is a single value for the whole row.
FM_INLINE void FM(binary_loop)(fm_binary op, fm_type type, const void *a, int a_one, const void *b, int b_one, void *y,
                               int64_t n) {
  if (n == 0) return;
  vf a_value = FM(v_set)(0), b_value = a_value;
  if (a_one) a_value = FM(v_set)(FM(v_read_n)(type, a, 0, 1)[0]);
  if (b_one) b_value = FM(v_set)(FM(v_read_n)(type, b, 0, 1)[0]);
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    if (!a_one) a_value = FM(v_read)(type, a, i);
    if (!b_one) b_value = FM(v_read)(type, b, i);
    FM(binary_store)(op, type, a_value, b_value, y, i, FM_LANES);
  }
  if (i == n) return;
  if (!a_one) a_value = FM(v_read_n)(type, a, i, n - i);
  if (!b_one) b_value = FM(v_read_n)(type, b, i, n - i);
  FM(binary_store)(op, type, a_value, b_value, y, i, n - i);
}

FM_INLINE void FM(binary_typed)(fm_binary op, fm_type type, const void *a, int a_one, const void *b, int b_one, void *y,
                                int64_t n) {
  if (a_one) {
    if (b_one) FM(binary_loop)(op, type, a, 1, b, 1, y, n); else FM(binary_loop)(op, type, a, 1, b, 0, y, n);
  } else {
    if (b_one) FM(binary_loop)(op, type, a, 0, b, 1, y, n); else FM(binary_loop)(op, type, a, 0, b, 0, y, n);
  }
}

static void FM(binary)(fm_binary op, fm_type type, const void *a, int a_one, const void *b, int b_one, void *y, int64_t n) {
#define CASE(op)                                                                       \
  case op:                                                                             \
    if (type == FM_BF16) FM(binary_typed)(op, FM_BF16, a, a_one, b, b_one, y, n);      \
    else FM(binary_typed)(op, FM_F32, a, a_one, b, b_one, y, n);                       \
    return;
  switch (op) {
    CASE(FM_ADD) CASE(FM_SUBTRACT) CASE(FM_MULTIPLY) CASE(FM_DIVIDE) CASE(FM_MAXIMUM) CASE(FM_MINIMUM)
    CASE(FM_POWER) CASE(FM_EQUAL) CASE(FM_NOT_EQUAL) CASE(FM_LESS) CASE(FM_LESS_EQUAL)
  }
#undef CASE
}

// The scalar stays f32 when the array is bf16, unlike a bf16 array of one element.
FM_INLINE void FM(scalar_loop)(fm_binary op, fm_type type, const void *x, float scalar, int reversed, void *y, int64_t n) {
  vf s = FM(v_set)(scalar);
  for (int64_t i = 0; i < n; i += FM_LANES) {
    int64_t m = n - i < FM_LANES ? n - i : FM_LANES;
    vf v = m == FM_LANES ? FM(v_read)(type, x, i) : FM(v_read_n)(type, x, i, m);
    FM(binary_store)(op, type, reversed ? s : v, reversed ? v : s, y, i, m);
  }
}

static void FM(scalar)(fm_binary op, fm_type type, const void *x, float scalar, int reversed, void *y, int64_t n) {
#define CASE(op)                                                                       \
  case op:                                                                             \
    if (type == FM_BF16) FM(scalar_loop)(op, FM_BF16, x, scalar, reversed, y, n);      \
    else FM(scalar_loop)(op, FM_F32, x, scalar, reversed, y, n);                       \
    return;
  switch (op) {
    CASE(FM_ADD) CASE(FM_SUBTRACT) CASE(FM_MULTIPLY) CASE(FM_DIVIDE) CASE(FM_MAXIMUM) CASE(FM_MINIMUM)
    CASE(FM_POWER) CASE(FM_EQUAL) CASE(FM_NOT_EQUAL) CASE(FM_LESS) CASE(FM_LESS_EQUAL)
  }
#undef CASE
}

#else
#define FM_FILE "../elementwise.c"
#include "support/each_variant.h"
#include "support/strided.h"

static size_t type_bytes(fm_type type) {
  static const size_t bytes[] = {4, 2, 4, 8, 1};
  return bytes[type];
}
static const void *at(const void *base, fm_type type, int64_t i) { return (const char *)base + i * (int64_t)type_bytes(type); }

typedef struct {
  int op, reversed;
  fm_type type;
  const void *x;
  float scalar;
  void *y;
  int64_t count;
} flat_task;

static int64_t flat_items(int64_t count) { return count <= 2 * FM_GRAIN ? 1 : (count + FM_GRAIN - 1) / FM_GRAIN; }
static int64_t flat_length(const flat_task *t, int64_t item) {
  if (t->count <= 2 * FM_GRAIN) return t->count;
  return t->count - item * FM_GRAIN < FM_GRAIN ? t->count - item * FM_GRAIN : FM_GRAIN;
}

static void unary_item(void *context, int64_t item) {
  const flat_task *t = context;
  int64_t first = item * FM_GRAIN;
  FM_CALL(unary)((fm_unary)t->op, t->type, at(t->x, t->type, first), (void *)at(t->y, t->type, first), flat_length(t, item));
}

void fm_unary_apply(fm_unary op, fm_type type, const void *x, void *y, int64_t count) {
  if (count <= 0) return;
  flat_task t = {.op = (int)op, .type = type, .x = x, .y = y, .count = count};
  fm_parallel(flat_items(count), unary_item, &t);
}

static void scalar_item(void *context, int64_t item) {
  const flat_task *t = context;
  int64_t first = item * FM_GRAIN;
  fm_type result = t->op >= FM_EQUAL ? FM_U8 : t->type;
  FM_CALL(scalar)((fm_binary)t->op, t->type, at(t->x, t->type, first), t->scalar, t->reversed,
                  (void *)at(t->y, result, first), flat_length(t, item));
}

void fm_scalar_apply(fm_binary op, fm_type type, const void *x, float scalar, int reversed, void *y, int64_t count) {
  if (count <= 0) return;
  // Powers that training needs at every step have closed forms.
  if (op == FM_POWER && !reversed && scalar == 2.0f) { fm_unary_apply(FM_SQUARE, type, x, y, count); return; }
  if (op == FM_POWER && !reversed && scalar == 1.0f) op = FM_MULTIPLY;
  flat_task t = {.op = (int)op, .type = type, .x = x, .scalar = scalar, .reversed = reversed, .y = y, .count = count};
  fm_parallel(flat_items(count), scalar_item, &t);
}

// Integers: wrapping arithmetic through the unsigned type; division by zero gives 0, and powers by squaring.
#define DEFINE_INTEGER_ROW(T, U)                                                                                     \
  static T power_##T(T base, T exponent) {                                                                           \
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;                               \
    U result = 1, square = (U)base;                                                                                  \
    for (; exponent > 0; exponent >>= 1, square *= square)                                                           \
      if (exponent & 1) result *= square;                                                                            \
    return (T)result;                                                                                                \
  }                                                                                                                  \
  static void integer_row_##T(fm_binary op, const T *a, int64_t s, const T *b, int64_t t, void *out, int64_t n) {    \
    T *y = out;                                                                                                      \
    uint8_t *c = out;                                                                                                \
    switch (op) {                                                                                                    \
      case FM_ADD: for (int64_t i = 0; i < n; i++) y[i] = (T)((U)a[i * s] + (U)b[i * t]); break;                     \
      case FM_SUBTRACT: for (int64_t i = 0; i < n; i++) y[i] = (T)((U)a[i * s] - (U)b[i * t]); break;                \
      case FM_MULTIPLY: for (int64_t i = 0; i < n; i++) y[i] = (T)((U)a[i * s] * (U)b[i * t]); break;                \
      case FM_DIVIDE:                                                                                                \
        for (int64_t i = 0; i < n; i++) {                                                                            \
          T d = b[i * t];                                                                                            \
          y[i] = d == 0 ? 0 : d == (T)-1 ? (T)(0 - (U)a[i * s]) : (T)(a[i * s] / d);                                 \
        }                                                                                                            \
        break;                                                                                                       \
      case FM_MAXIMUM: for (int64_t i = 0; i < n; i++) y[i] = a[i * s] > b[i * t] ? a[i * s] : b[i * t]; break;      \
      case FM_MINIMUM: for (int64_t i = 0; i < n; i++) y[i] = a[i * s] < b[i * t] ? a[i * s] : b[i * t]; break;      \
      case FM_POWER: for (int64_t i = 0; i < n; i++) y[i] = power_##T(a[i * s], b[i * t]); break;                    \
      case FM_EQUAL: for (int64_t i = 0; i < n; i++) c[i] = a[i * s] == b[i * t]; break;                             \
      case FM_NOT_EQUAL: for (int64_t i = 0; i < n; i++) c[i] = a[i * s] != b[i * t]; break;                         \
      case FM_LESS: for (int64_t i = 0; i < n; i++) c[i] = a[i * s] < b[i * t]; break;                               \
      case FM_LESS_EQUAL: for (int64_t i = 0; i < n; i++) c[i] = a[i * s] <= b[i * t]; break;                        \
    }                                                                                                                \
  }
DEFINE_INTEGER_ROW(int32_t, uint32_t)
DEFINE_INTEGER_ROW(int64_t, uint64_t)

static void byte_row(fm_binary op, const uint8_t *a, int64_t s, const uint8_t *b, int64_t t, uint8_t *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint8_t p = a[i * s], q = b[i * t];
    switch (op) {
      case FM_ADD: y[i] = (uint8_t)(p + q); break;
      case FM_SUBTRACT: y[i] = (uint8_t)(p - q); break;
      case FM_MULTIPLY: y[i] = (uint8_t)(p * q); break;
      case FM_MAXIMUM: y[i] = p > q ? p : q; break;
      case FM_MINIMUM: y[i] = p < q ? p : q; break;
      case FM_EQUAL: y[i] = p == q; break;
      case FM_NOT_EQUAL: y[i] = p != q; break;
      case FM_LESS: y[i] = p < q; break;
      case FM_LESS_EQUAL: y[i] = p <= q; break;
      default: y[i] = 0;
    }
  }
}

/// Copies n strided elements next to each other.
static void pack(fm_type type, const void *x, int64_t stride, void *y, int64_t n) {
  if (type == FM_BF16) for (int64_t i = 0; i < n; i++) ((uint16_t *)y)[i] = ((const uint16_t *)x)[i * stride];
  else for (int64_t i = 0; i < n; i++) ((uint32_t *)y)[i] = ((const uint32_t *)x)[i * stride];
}

#define PACK 256

typedef struct {
  fm_binary op;
  fm_type type, result;
  const void *a, *b;
  void *y;
} binary_task;

static void float_row(const binary_task *t, const void *a, int64_t a_stride, const void *b, int64_t b_stride, void *y, int64_t n) {
  int a_packs = a_stride != 0 && a_stride != 1, b_packs = b_stride != 0 && b_stride != 1;
  if (!a_packs && !b_packs) {
    FM_CALL(binary)(t->op, t->type, a, a_stride == 0, b, b_stride == 0, y, n);
    return;
  }
  uint32_t a_packed[PACK], b_packed[PACK];
  for (int64_t i = 0; i < n; i += PACK) {
    int64_t m = n - i < PACK ? n - i : PACK;
    const void *p = at(a, t->type, i * a_stride), *q = at(b, t->type, i * b_stride);
    if (a_packs) { pack(t->type, p, a_stride, a_packed, m); p = a_packed; }
    if (b_packs) { pack(t->type, q, b_stride, b_packed, m); q = b_packed; }
    FM_CALL(binary)(t->op, t->type, p, a_stride == 0, q, b_stride == 0, (void *)at(y, t->result, i), m);
  }
}

static void binary_row(const void *context, const fm_layout *l, const int64_t *offset, int64_t n) {
  const binary_task *t = context;
  int inner = l->rank - 1;
  int64_t s = l->stride[0][inner], u = l->stride[1][inner];
  const void *a = at(t->a, t->type, offset[0]), *b = at(t->b, t->type, offset[1]);
  void *y = (void *)at(t->y, t->result, offset[2]);
  switch (t->type) {
    case FM_I32: integer_row_int32_t(t->op, a, s, b, u, y, n); break;
    case FM_I64: integer_row_int64_t(t->op, a, s, b, u, y, n); break;
    case FM_U8: byte_row(t->op, a, s, b, u, y, n); break;
    default: float_row(t, a, s, b, u, y, n);
  }
}

// Fills a layout whose last operand is contiguous.
static void describe(fm_layout *l, int rank, const int64_t *shape, int inputs, const int64_t *const *strides) {
  l->rank = rank;
  l->operands = inputs + 1;
  int64_t step = 1;
  for (int d = rank - 1; d >= 0; d--) {
    l->shape[d] = shape[d];
    for (int k = 0; k < inputs; k++) l->stride[k][d] = strides[k][d];
    l->stride[inputs][d] = step;
    step *= shape[d];
  }
}

void fm_binary_apply(fm_binary op, fm_type type, int rank, const int64_t *shape, const void *a, const int64_t *a_stride,
                     const void *b, const int64_t *b_stride, void *y) {
  fm_layout l;
  describe(&l, rank, shape, 2, (const int64_t *const[]){a_stride, b_stride});
  binary_task t = {op, type, op >= FM_EQUAL ? FM_U8 : type, a, b, y};
  int64_t count = fm_layout_collapse(&l);
  fm_for_each_row(&l, count, binary_row, &t);
}

typedef struct {
  fm_type type;
  const uint8_t *condition;
  const void *a, *b;
  void *y;
} select_task;

#define DEFINE_SELECT_ROW(T)                                                                                   \
  static void select_row_##T(const uint8_t *c, int64_t r, const T *a, int64_t s, const T *b, int64_t t, T *y,  \
                             int64_t n) {                                                                      \
    if (r == 1 && s == 1 && t == 1) {                                                                          \
      for (int64_t i = 0; i < n; i++) { T p = a[i], q = b[i]; y[i] = c[i] ? p : q; }                           \
    } else if (r == 1 && s == 1 && t == 0) {                                                                   \
      T q = b[0];                                                                                              \
      for (int64_t i = 0; i < n; i++) { T p = a[i]; y[i] = c[i] ? p : q; }                                     \
    } else {                                                                                                   \
      for (int64_t i = 0; i < n; i++) y[i] = c[i * r] ? a[i * s] : b[i * t];                                   \
    }                                                                                                          \
  }
DEFINE_SELECT_ROW(uint8_t)
DEFINE_SELECT_ROW(uint16_t)
DEFINE_SELECT_ROW(uint32_t)
DEFINE_SELECT_ROW(uint64_t)

static void select_row(const void *context, const fm_layout *l, const int64_t *offset, int64_t n) {
  const select_task *t = context;
  int inner = l->rank - 1;
  int64_t r = l->stride[0][inner], s = l->stride[1][inner], u = l->stride[2][inner];
  const uint8_t *c = t->condition + offset[0];
  const void *a = at(t->a, t->type, offset[1]), *b = at(t->b, t->type, offset[2]);
  void *y = (void *)at(t->y, t->type, offset[3]);
  switch (type_bytes(t->type)) {
    case 1: select_row_uint8_t(c, r, a, s, b, u, y, n); break;
    case 2: select_row_uint16_t(c, r, a, s, b, u, y, n); break;
    case 4: select_row_uint32_t(c, r, a, s, b, u, y, n); break;
    default: select_row_uint64_t(c, r, a, s, b, u, y, n);
  }
}

void fm_select(fm_type type, int rank, const int64_t *shape, const uint8_t *condition, const int64_t *c_stride,
               const void *a, const int64_t *a_stride, const void *b, const int64_t *b_stride, void *y) {
  fm_layout l;
  describe(&l, rank, shape, 3, (const int64_t *const[]){c_stride, a_stride, b_stride});
  select_task t = {type, condition, a, b, y};
  int64_t count = fm_layout_collapse(&l);
  fm_for_each_row(&l, count, select_row, &t);
}
#endif
