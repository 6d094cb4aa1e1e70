// oneDNN's primitives by shape, and what a thread needs to run them.
#define _GNU_SOURCE
#include "support/product_primitives.h"
#include <dnnl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
  product_key key;
  uint64_t hash;
  struct entry *next;
  // Shared by concurrent callers; freed when the last of the table and the callers lets go.
  atomic_int owners;
  dnnl_primitive_t primitive;
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

static dnnl_data_type_t data_type(fm_type type) { return type == FM_BF16 ? dnnl_bf16 : dnnl_f32; }

static void release(entry *e) {
  if (!e || atomic_fetch_sub(&e->owners, 1) != 1) return;
  if (e->primitive) dnnl_primitive_destroy(e->primitive);
  free(e);
}

// ---- Descriptions ----

static int describe(dnnl_memory_desc_t *d, fm_type type, int64_t batch, int64_t rows, int64_t columns, const int64_t *stride,
                    int flat) {
  if (flat) {
    dnnl_dims_t dims = {rows, columns}, strides = {stride[1], stride[2]};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, data_type(type), strides) == dnnl_success;
  }
  // A broadcast operand has one matrix, whatever its batch stride.
  dnnl_dims_t dims = {batch, rows, columns}, strides = {batch == 1 ? rows * columns : stride[0], stride[1], stride[2]};
  return dnnl_memory_desc_init_by_strides(d, 3, dims, data_type(type), strides) == dnnl_success;
}

// Rows for which oneDNN is asked what order of b it likes. One order serves any number of rows, so that a packed matrix does.
#define USUAL_ROWS 1024

typedef struct packed_order {
  fm_type type;
  int64_t inner, columns;
  int exists;
  dnnl_memory_desc_t order;
  struct packed_order *next;
} packed_order;
// Asked once and kept for good: memory packed in one order is never read in another, whatever oneDNN would say later.
static packed_order *orders;

static int ask_order(packed_order *o) {
  dnnl_memory_desc_t a, c;
  dnnl_matmul_desc_t matmul;
  dnnl_primitive_desc_t description = NULL;
  dnnl_dims_t dims = {o->inner, o->columns};
  int good = describe(&a, o->type, 1, USUAL_ROWS, o->inner, (int64_t[]){0, o->inner, 1}, 1) &&
             dnnl_memory_desc_init_by_tag(&o->order, 2, dims, data_type(o->type), dnnl_format_tag_any) == dnnl_success &&
             describe(&c, o->type, 1, USUAL_ROWS, o->columns, (int64_t[]){0, o->columns, 1}, 1) &&
             dnnl_matmul_desc_init(&matmul, &a, &o->order, NULL, &c) == dnnl_success &&
             dnnl_primitive_desc_create(&description, &matmul, NULL, engine, NULL) == dnnl_success;
  if (good) o->order = *dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
  if (description) dnnl_primitive_desc_destroy(description);
  // A plain order needs no packing.
  return good && o->order.format_kind == dnnl_blocked && o->order.format_desc.blocking.inner_nblks > 0;
}

/// The order of b (inner, columns) that oneDNN likes best; NULL when that is a plain one or there is no product. Under the lock.
static const dnnl_memory_desc_t *order_of(fm_type type, int64_t inner, int64_t columns) {
  packed_order *o = orders;
  while (o && !(o->type == type && o->inner == inner && o->columns == columns)) o = o->next;
  if (!o) {
    o = calloc(1, sizeof *o);
    if (!o) return NULL;
    o->type = type;
    o->inner = inner;
    o->columns = columns;
    o->exists = ask_order(o);
    o->next = orders;
    orders = o;
  }
  return o->exists ? &o->order : NULL;
}

// ---- Creation ----

static dnnl_primitive_desc_t describe_product(entry *e, dnnl_primitive_attr_t attributes) {
  const fm_product_shape *s = &e->key.shape;
  int64_t a_batch = s->a_stride[0] == 0 ? 1 : s->batch, b_batch = s->b_stride[0] == 0 ? 1 : s->batch;
  int flat = s->batch == 1, good = 1;
  dnnl_matmul_desc_t matmul;
  dnnl_primitive_desc_t description = NULL;
  if (e->key.kind == PRODUCT_PACKED) {
    const dnnl_memory_desc_t *order = order_of(s->input_type, s->inner, s->columns);
    if (!order) return NULL;
    e->b = *order;
  } else {
    good = describe(&e->b, s->input_type, b_batch, s->inner, s->columns, s->b_stride, flat);
  }
  good = good && describe(&e->a, s->input_type, a_batch, s->rows, s->inner, s->a_stride, flat) &&
             describe(&e->c, s->output_type, s->batch, s->rows, s->columns, s->c_stride, flat) &&
             dnnl_matmul_desc_init(&matmul, &e->a, &e->b, NULL, &e->c) == dnnl_success;
  dnnl_post_ops_t post = NULL;
  if (good && s->accumulate)
    good = dnnl_post_ops_create(&post) == dnnl_success && dnnl_post_ops_append_sum(post, 1.0f) == dnnl_success &&
           dnnl_primitive_attr_set_post_ops(attributes, post) == dnnl_success;
  if (good) dnnl_primitive_desc_create(&description, &matmul, attributes, engine, NULL);
  if (post) dnnl_post_ops_destroy(post);
  return description;
}

static dnnl_primitive_desc_t describe_pack(entry *e, dnnl_primitive_attr_t attributes) {
  const fm_product_shape *s = &e->key.shape;
  dnnl_primitive_desc_t description = NULL;
  const dnnl_memory_desc_t *order = order_of(s->input_type, s->inner, s->columns);
  if (!order || !describe(&e->a, s->output_type, 1, s->inner, s->columns, s->b_stride, 1)) return NULL;
  e->c = *order;
  dnnl_reorder_primitive_desc_create(&description, &e->a, engine, &e->c, engine, attributes);
  return description;
}

static entry *create(const product_key *key, uint64_t hash) {
  entry *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->key = *key;
  e->hash = hash;
  atomic_init(&e->owners, 1);
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_primitive_desc_t description = NULL;
  // The caller's thread brings the scratch memory, so a primitive may run on any thread.
  if (dnnl_primitive_attr_create(&attributes) == dnnl_success &&
      dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success)
    description = key->kind == PRODUCT_PACK ? describe_pack(e, attributes) : describe_product(e, attributes);
  if (description && dnnl_primitive_create(&e->primitive, description) == dnnl_success) {
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
    e->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (e->scratch_bytes) e->scratch = *scratch;
    atomic_fetch_add_explicit(&created, 1, memory_order_relaxed);
    fm_thread_work()->primitives++;
  } else {
    // A refusal is kept too, so that it costs nothing the next time.
    e->primitive = NULL;
  }
  if (description) dnnl_primitive_desc_destroy(description);
  if (attributes) dnnl_primitive_attr_destroy(attributes);
  return e;
}

// ---- The table ----

static uint64_t hash_of(const product_key *key) {
  const fm_product_shape *s = &key->shape;
  const uint64_t words[] = {(uint64_t)key->kind, (uint64_t)s->input_type, (uint64_t)s->output_type, (uint64_t)s->batch,
                            (uint64_t)s->rows, (uint64_t)s->inner, (uint64_t)s->columns, (uint64_t)s->a_stride[0],
                            (uint64_t)s->a_stride[1], (uint64_t)s->a_stride[2], (uint64_t)s->b_stride[0],
                            (uint64_t)s->b_stride[1], (uint64_t)s->b_stride[2], (uint64_t)s->c_stride[0],
                            (uint64_t)s->c_stride[1], (uint64_t)s->accumulate};
  uint64_t h = 0;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    h = (h ^ words[i]) * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
  }
  return h;
}

static int same_key(const product_key *k, const product_key *l) {
  const fm_product_shape *p = &k->shape, *q = &l->shape;
  return k->kind == l->kind && p->input_type == q->input_type && p->output_type == q->output_type && p->batch == q->batch &&
         p->rows == q->rows && p->inner == q->inner && p->columns == q->columns && p->accumulate == q->accumulate &&
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

// The entry for a key, owned by the caller until released; NULL when there is no memory or no oneDNN.
static entry *acquire(const product_key *key) {
  pthread_once(&engine_once, make_engine);
  if (!engine) return NULL;
  uint64_t hash = hash_of(key);
  pthread_mutex_lock(&table_lock);
  entry *e = buckets[hash % BUCKETS];
  while (e && !(e->hash == hash && same_key(&e->key, key))) e = e->next;
  if (!e && (e = create(key, hash))) {
    if (entries >= MAX_ENTRIES) clear_table();
    e->next = buckets[hash % BUCKETS];
    buckets[hash % BUCKETS] = e;
    entries++;
  }
  if (e) atomic_fetch_add(&e->owners, 1);
  pthread_mutex_unlock(&table_lock);
  return e;
}

int64_t product_packed_bytes(const product_key *key) {
  entry *e = acquire(key);
  int64_t bytes = e && e->primitive ? (int64_t)dnnl_memory_desc_get_size(&e->c) : 0;
  release(e);
  return bytes;
}

// ---- Running ----

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
  pthread_once(&engine_once, make_engine);
  pthread_once(&state_once, make_key);
  thread_state *t = engine ? calloc(1, sizeof *t) : NULL;
  if (!t) return NULL;
  if (dnnl_stream_create(&t->stream, engine, dnnl_stream_default_flags) != dnnl_success) { free(t); return NULL; }
  pthread_setspecific(state_key, t);
  return mine = t;
}

static void *grown(thread_state *t, int slot, size_t bytes) {
  if (t->bytes[slot] >= bytes) return t->memory[slot];
  if (t->memory[slot]) fm_unmap_memory(t->memory[slot], t->bytes[slot]);
  bytes += bytes / 4;
  t->memory[slot] = fm_map_memory(bytes);
  t->bytes[slot] = t->memory[slot] ? bytes : 0;
  return t->memory[slot];
}

void *product_scratch(int slot, size_t bytes) {
  thread_state *t = state();
  return t ? grown(t, slot + 1, bytes) : NULL;
}

static int execute(thread_state *t, const entry *e, const void *a, const void *b, void *c) {
  int packs = e->key.kind == PRODUCT_PACK;
  void *work = e->scratch_bytes ? grown(t, 0, e->scratch_bytes) : NULL;
  if (!work && e->scratch_bytes) return -2;
  dnnl_exec_arg_t arguments[4] = {{packs ? DNNL_ARG_FROM : DNNL_ARG_SRC, NULL}, {packs ? DNNL_ARG_TO : DNNL_ARG_DST, NULL}};
  int count = 2;
  int made = dnnl_memory_create(&arguments[0].memory, &e->a, engine, (void *)a) == dnnl_success &&
             dnnl_memory_create(&arguments[1].memory, &e->c, engine, c) == dnnl_success;
  if (made && !packs) {
    arguments[count].arg = DNNL_ARG_WEIGHTS;
    made = dnnl_memory_create(&arguments[count++].memory, &e->b, engine, (void *)b) == dnnl_success;
  }
  if (made && work) {
    arguments[count].arg = DNNL_ARG_SCRATCHPAD;
    made = dnnl_memory_create(&arguments[count++].memory, &e->scratch, engine, work) == dnnl_success;
  }
  int result = -2;
  if (made) {
    fm_adopt_thread_count();
    result = dnnl_primitive_execute(e->primitive, t->stream, count, arguments) == dnnl_success ? 0 : -1;
  }
  for (int i = 0; i < count; i++)
    if (arguments[i].memory) dnnl_memory_destroy(arguments[i].memory);
  return result;
}

int product_run(const product_key *key, const void *a, const void *b, void *c) {
  thread_state *t = state();
  entry *e = t ? acquire(key) : NULL;
  if (!e) return -2;
  int result = e->primitive ? execute(t, e, a, b, c) : -1;
  release(e);
  return result;
}
