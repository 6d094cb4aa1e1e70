// Matrix products through oneDNN's matmul primitive, with a cache of primitives by shape.
#define _GNU_SOURCE
#include "fermata_product.h"
#include "fermata_elementwise.h"
#include "support/product_rows.h"
#include <dnnl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
  fm_product_shape shape;
  uint64_t hash;
  struct entry *next;
  // Shared by concurrent callers; freed when the last of the table and the callers lets go.
  atomic_int owners;
  dnnl_primitive_t primitive;
  dnnl_primitive_desc_t description;
  dnnl_memory_desc_t a, b, c, scratch;
  size_t scratch_bytes;
} entry;

#define BUCKETS 1024
#define MAX_ENTRIES 4096
static entry *buckets[BUCKETS];
static int entries;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_llong created;

static dnnl_engine_t engine;
static pthread_once_t engine_once = PTHREAD_ONCE_INIT;
static void make_engine(void) {
  if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
}

int64_t fm_product_primitives_created(void) { return atomic_load_explicit(&created, memory_order_relaxed); }

static int64_t type_bytes(fm_type type) { return type == FM_BF16 ? 2 : 4; }
static const char *offset(const void *base, fm_type type, int64_t i) { return (const char *)base + i * type_bytes(type); }

static void release(entry *e) {
  if (!e || atomic_fetch_sub(&e->owners, 1) != 1) return;
  if (e->primitive) dnnl_primitive_destroy(e->primitive);
  if (e->description) dnnl_primitive_desc_destroy(e->description);
  free(e);
}

static int describe(dnnl_memory_desc_t *d, fm_type type, int64_t batch, int64_t rows, int64_t columns, const int64_t *stride,
                    int flat) {
  dnnl_data_type_t data_type = type == FM_BF16 ? dnnl_bf16 : dnnl_f32;
  if (flat) {
    dnnl_dims_t dims = {rows, columns}, strides = {stride[1], stride[2]};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, data_type, strides) == dnnl_success;
  }
  // A broadcast operand has one matrix, whatever its batch stride.
  dnnl_dims_t dims = {batch, rows, columns}, strides = {batch == 1 ? rows * columns : stride[0], stride[1], stride[2]};
  return dnnl_memory_desc_init_by_strides(d, 3, dims, data_type, strides) == dnnl_success;
}

static entry *create(const fm_product_shape *s, uint64_t hash) {
  entry *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->shape = *s;
  e->hash = hash;
  atomic_init(&e->owners, 1);
  dnnl_matmul_desc_t matmul;
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t post = NULL;
  int64_t a_batch = s->a_stride[0] == 0 ? 1 : s->batch, b_batch = s->b_stride[0] == 0 ? 1 : s->batch;
  int flat = s->batch == 1;
  int good = describe(&e->a, s->input_type, a_batch, s->rows, s->inner, s->a_stride, flat) &&
             describe(&e->b, s->input_type, b_batch, s->inner, s->columns, s->b_stride, flat) &&
             describe(&e->c, s->output_type, s->batch, s->rows, s->columns, s->c_stride, flat) &&
             dnnl_matmul_desc_init(&matmul, &e->a, &e->b, NULL, &e->c) == dnnl_success &&
             dnnl_primitive_attr_create(&attributes) == dnnl_success &&
             // The caller's thread brings the scratch memory, so a primitive may run on any thread.
             dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
  if (good && s->accumulate)
    good = dnnl_post_ops_create(&post) == dnnl_success && dnnl_post_ops_append_sum(post, 1.0f) == dnnl_success &&
           dnnl_primitive_attr_set_post_ops(attributes, post) == dnnl_success;
  good = good && dnnl_primitive_desc_create(&e->description, &matmul, attributes, engine, NULL) == dnnl_success &&
         dnnl_primitive_create(&e->primitive, e->description) == dnnl_success;
  if (good) {
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(e->description, dnnl_query_scratchpad_md, 0);
    e->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (e->scratch_bytes) e->scratch = *scratch;
    atomic_fetch_add_explicit(&created, 1, memory_order_relaxed);
    fm_thread_work()->primitives++;
  }
  if (post) dnnl_post_ops_destroy(post);
  if (attributes) dnnl_primitive_attr_destroy(attributes);
  // A refusal is kept too (primitive NULL), so that it costs nothing the next time.
  if (!good && e->primitive) { dnnl_primitive_destroy(e->primitive); e->primitive = NULL; }
  return e;
}

static uint64_t hash_of(const fm_product_shape *s) {
  const uint64_t words[] = {(uint64_t)s->input_type, (uint64_t)s->output_type, (uint64_t)s->batch, (uint64_t)s->rows,
                            (uint64_t)s->inner, (uint64_t)s->columns, (uint64_t)s->a_stride[0], (uint64_t)s->a_stride[1],
                            (uint64_t)s->a_stride[2], (uint64_t)s->b_stride[0], (uint64_t)s->b_stride[1],
                            (uint64_t)s->b_stride[2], (uint64_t)s->c_stride[0], (uint64_t)s->c_stride[1],
                            (uint64_t)s->accumulate};
  uint64_t h = 0;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    h = (h ^ words[i]) * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
  }
  return h;
}

static int same_shape(const fm_product_shape *p, const fm_product_shape *q) {
  return p->input_type == q->input_type && p->output_type == q->output_type && p->batch == q->batch && p->rows == q->rows &&
         p->inner == q->inner && p->columns == q->columns && p->accumulate == q->accumulate &&
         memcmp(p->a_stride, q->a_stride, sizeof p->a_stride) == 0 && memcmp(p->b_stride, q->b_stride, sizeof p->b_stride) == 0 &&
         memcmp(p->c_stride, q->c_stride, sizeof p->c_stride) == 0;
}

static void clear_table(void) {
  for (int i = 0; i < BUCKETS; i++) {
    entry *e = buckets[i];
    buckets[i] = NULL;
    while (e) { entry *next = e->next; release(e); e = next; }
  }
  entries = 0;
}

// The entry for a shape, owned by the caller until released; NULL when memory is out.
static entry *acquire(const fm_product_shape *s) {
  uint64_t hash = hash_of(s);
  pthread_mutex_lock(&table_lock);
  entry *e = buckets[hash % BUCKETS];
  while (e && !(e->hash == hash && same_shape(&e->shape, s))) e = e->next;
  if (!e && (e = create(s, hash))) {
    if (entries >= MAX_ENTRIES) clear_table();
    e->next = buckets[hash % BUCKETS];
    buckets[hash % BUCKETS] = e;
    entries++;
  }
  if (e) atomic_fetch_add(&e->owners, 1);
  pthread_mutex_unlock(&table_lock);
  return e;
}

// What one thread needs for a call: a stream, and memory for primitives' scratch and for conversions. Freed with the thread.
typedef struct {
  dnnl_stream_t stream;
  void *memory[4];
  size_t bytes[4];
} thread_state;
static pthread_key_t state_key;
static pthread_once_t state_once = PTHREAD_ONCE_INIT;

static void free_state(void *p) {
  thread_state *t = p;
  if (t->stream) dnnl_stream_destroy(t->stream);
  for (int i = 0; i < 4; i++)
    if (t->memory[i]) fm_unmap_memory(t->memory[i], t->bytes[i]);
  free(t);
}
static void make_key(void) { pthread_key_create(&state_key, free_state); }

static thread_state *state(void) {
  static _Thread_local thread_state *mine;
  if (mine) return mine;
  pthread_once(&state_once, make_key);
  thread_state *t = calloc(1, sizeof *t);
  if (!t) return NULL;
  if (dnnl_stream_create(&t->stream, engine, dnnl_stream_default_flags) != dnnl_success) { free(t); return NULL; }
  pthread_setspecific(state_key, t);
  return mine = t;
}

static void *scratch(thread_state *t, int slot, size_t bytes) {
  if (t->bytes[slot] >= bytes) return t->memory[slot];
  if (t->memory[slot]) fm_unmap_memory(t->memory[slot], t->bytes[slot]);
  bytes += bytes / 4;
  t->memory[slot] = fm_map_memory(bytes);
  t->bytes[slot] = t->memory[slot] ? bytes : 0;
  return t->memory[slot];
}

static int execute(const fm_product_shape *s, const void *a, const void *b, void *c) {
  thread_state *t = state();
  entry *e = t ? acquire(s) : NULL;
  if (!e) return -2;
  int result = -1;
  dnnl_memory_t memory[4] = {NULL, NULL, NULL, NULL};
  if (e->primitive) {
    void *work = e->scratch_bytes ? scratch(t, 0, e->scratch_bytes) : NULL;
    int made = (work || !e->scratch_bytes) && dnnl_memory_create(&memory[0], &e->a, engine, (void *)a) == dnnl_success &&
               dnnl_memory_create(&memory[1], &e->b, engine, (void *)b) == dnnl_success &&
               dnnl_memory_create(&memory[2], &e->c, engine, c) == dnnl_success &&
               (!work || dnnl_memory_create(&memory[3], &e->scratch, engine, work) == dnnl_success);
    if (made) {
      dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory[0]}, {DNNL_ARG_WEIGHTS, memory[1]}, {DNNL_ARG_DST, memory[2]},
                                     {DNNL_ARG_SCRATCHPAD, memory[3]}};
      fm_adopt_thread_count();
      result = dnnl_primitive_execute(e->primitive, t->stream, work ? 4 : 3, arguments) == dnnl_success ? 0 : -1;
    } else {
      result = -2;
    }
  }
  for (int i = 0; i < 4; i++)
    if (memory[i]) dnnl_memory_destroy(memory[i]);
  release(e);
  return result;
}

// bf16 without oneDNN's bf16: converts a block of rows and one b to f32, multiplies those, and rounds the result.
#define ROW_BLOCK 1024

static int convert(int64_t rows, int64_t columns, fm_type from, const void *x, const int64_t *stride, fm_type to, void *y,
                   const int64_t *y_stride) {
  if (!y) return -2;
  fm_copy(2, (int64_t[]){rows, columns}, from, x, stride, to, y, y_stride);
  return 0;
}

static int product_through_f32(const fm_product_shape *s, const void *a, const void *b, void *c) {
  thread_state *t = state();
  if (!t) return -2;
  int64_t block = s->rows < ROW_BLOCK ? s->rows : ROW_BLOCK;
  float *wide_a = scratch(t, 1, 4 * (size_t)(block * s->inner)), *wide_b = scratch(t, 2, 4 * (size_t)(s->inner * s->columns));
  float *wide_c = s->output_type == FM_BF16 ? scratch(t, 3, 4 * (size_t)(block * s->columns)) : NULL;
  const int64_t dense_c[] = {s->columns, 1}, a_rows[] = {s->inner, 1};
  // b keeps its own order, so that the conversion is not a transpose.
  const int64_t b_rows[] = {s->b_stride[2] == 1 ? s->columns : 1, s->b_stride[2] == 1 ? 1 : s->inner};
  for (int64_t i = 0; i < s->batch; i++) {
    int failed = 0;
    if (i == 0 || s->b_stride[0] != 0)
      failed = convert(s->inner, s->columns, FM_BF16, offset(b, FM_BF16, i * s->b_stride[0]), s->b_stride + 1, FM_F32, wide_b, b_rows);
    for (int64_t r = 0; r < s->rows && !failed; r += block) {
      int64_t n = s->rows - r < block ? s->rows - r : block;
      failed = convert(n, s->inner, FM_BF16, offset(a, FM_BF16, i * s->a_stride[0] + r * s->a_stride[1]), s->a_stride + 1, FM_F32,
                       wide_a, a_rows);
      char *target = (char *)offset(c, s->output_type, i * s->c_stride[0] + r * s->c_stride[1]);
      if (!failed && s->output_type == FM_BF16 && s->accumulate)
        failed = convert(n, s->columns, FM_BF16, target, s->c_stride + 1, FM_F32, wide_c, dense_c);
      fm_product_shape wide = {FM_F32, FM_F32, 1, n, s->inner, s->columns, {0, s->inner, 1}, {0, b_rows[0], b_rows[1]},
                               {0, s->output_type == FM_BF16 ? s->columns : s->c_stride[1], 1}, s->accumulate};
      if (!failed) failed = fm_product(&wide, wide_a, wide_b, s->output_type == FM_BF16 ? (void *)wide_c : target);
      if (!failed && s->output_type == FM_BF16)
        failed = convert(n, s->columns, FM_F32, wide_c, dense_c, FM_BF16, target, s->c_stride + 1);
    }
    if (failed) return failed;
  }
  return 0;
}

// The strides of axes of size 1 mean nothing: given values that make equal shapes equal and are valid to oneDNN.
static void normalise_operand(int64_t *stride, int64_t batch, int64_t rows, int64_t columns) {
  if (columns == 1 && rows == 1) { stride[1] = 1; stride[2] = 1; }
  else if (columns == 1) { if (stride[1] == 1) stride[2] = rows; else stride[2] = 1; }
  else if (rows == 1) { if (stride[2] == 1) stride[1] = columns; else stride[1] = 1; }
  if (batch == 1) stride[0] = 0;
}

static void normalise(fm_product_shape *s) {
  s->accumulate = s->accumulate != 0;
  s->c_stride[2] = 1;
  // Rows of all batches under one b are the rows of one product.
  int a_joins = s->rows == 1 || s->a_stride[0] == s->rows * s->a_stride[1];
  int c_joins = s->rows == 1 || s->c_stride[0] == s->rows * s->c_stride[1];
  if (s->batch > 1 && s->b_stride[0] == 0 && s->a_stride[0] != 0 && a_joins && c_joins && (s->a_stride[2] == 1 || s->inner == 1)) {
    if (s->rows == 1) { s->a_stride[1] = s->a_stride[0]; s->c_stride[1] = s->c_stride[0]; }
    s->rows *= s->batch;
    s->batch = 1;
  }
  normalise_operand(s->a_stride, s->batch, s->rows, s->inner);
  normalise_operand(s->b_stride, s->batch, s->inner, s->columns);
  if (s->rows == 1) s->c_stride[1] = s->columns;
  if (s->batch == 1) s->c_stride[0] = 0;
}

static void clear_output(const fm_product_shape *s, void *c) {
  for (int64_t i = 0; i < s->batch; i++)
    for (int64_t r = 0; r < s->rows; r++)
      memset((char *)c + (i * s->c_stride[0] + r * s->c_stride[1]) * type_bytes(s->output_type), 0,
             (size_t)(s->columns * type_bytes(s->output_type)));
}

int fm_product(const fm_product_shape *shape, const void *a, const void *b, void *c) {
  if (shape->batch <= 0 || shape->rows <= 0 || shape->columns <= 0) return 0;
  fm_product_shape s = *shape;
  if (s.inner <= 0) {
    if (!s.accumulate) clear_output(&s, c);
    return 0;
  }
  normalise(&s);
  if (fm_product_suits_few_rows(&s)) {
    fm_product_few_rows(&s, a, b, c);
    return 0;
  }
  pthread_once(&engine_once, make_engine);
  if (!engine) return -2;
  if (s.input_type == FM_BF16 && fm_path() < FM_AVX512) return product_through_f32(&s, a, b, c);
  int result = execute(&s, a, b, c);
  // A processor whose oneDNN has no bf16 product at all.
  if (result == -1 && s.input_type == FM_BF16) result = product_through_f32(&s, a, b, c);
  return result;
}
