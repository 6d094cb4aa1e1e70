// Processor detection, the thread pool and system memory.
#define _GNU_SOURCE
#include "fermata_runtime.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

// libgomp is the runtime that oneDNN uses; entering its regions directly gives both one pool.
extern void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern int omp_get_thread_num(void);
extern int omp_get_num_threads(void);
extern int omp_in_parallel(void);
extern void omp_set_num_threads(int);
extern void omp_set_max_active_levels(int);

static const char *const path_names[] = {"portable", "avx2", "avx512", "avx512_bf16", "amx", "amx_emulated"};

const char *fm_path_name(int path) { return path >= 0 && path <= FM_AMX_EMULATED ? path_names[path] : NULL; }

#if defined(__x86_64__)
static int has_avx512_bf16(void) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}

// Bits of leaf 7: AMX-BF16 and AMX-TILE. Linux gives a process the tiles' 8 KiB of state only when it asks for them.
static int has_amx(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & (1u << 22)) || !(d & (1u << 24))) return 0;
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

static int best_path = FM_PORTABLE;
static void find_best_path(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return;
  best_path = FM_AVX2;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))) return;
  best_path = FM_AVX512;
  if (!has_avx512_bf16()) return;
  best_path = has_amx() ? FM_AMX : FM_AVX512_BF16;
#endif
}

int fm_best_path(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, find_best_path);
  return best_path;
}

int fm_has_path(int path) { return path >= 0 && (path <= fm_best_path() || path == FM_AMX_EMULATED); }

static atomic_int chosen_path = -1;
static _Thread_local int own_path = -1, own_threads = 0;

void fm_override(int path, int threads) {
  own_path = fm_has_path(path) ? path : -1;
  own_threads = threads;
}

int fm_path(void) {
  if (own_path >= 0) return own_path;
  int path = atomic_load_explicit(&chosen_path, memory_order_relaxed);
  if (path >= 0) return path;
  path = fm_best_path();
  const char *wanted = getenv("FERMATA_PATH");
  for (int i = 0; wanted && i <= FM_AMX_EMULATED; i++)
    if (fm_has_path(i) && strcmp(wanted, path_names[i]) == 0) path = i;
  atomic_store_explicit(&chosen_path, path, memory_order_relaxed);
  return path;
}

int fm_variant(void) {
  int path = fm_path();
  if (path < FM_AMX) return path;
  return fm_best_path() >= FM_AVX512_BF16 ? FM_AVX512_BF16 : FM_PORTABLE;
}

int fm_set_path(int path) {
  if (!fm_has_path(path)) return -1;
  atomic_store_explicit(&chosen_path, path, memory_order_relaxed);
  return 0;
}

static char feature_text[160];

static void find_features(void) {
  char *built = feature_text;
#if defined(__x86_64__)
  unsigned a, b, c, d;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) strcat(built, "avx2 ");
  if (__builtin_cpu_supports("fma")) strcat(built, "fma ");
  if (__builtin_cpu_supports("avx512f")) strcat(built, "avx512f ");
  if (__builtin_cpu_supports("avx512vnni")) strcat(built, "avx512_vnni ");
  if (has_avx512_bf16()) strcat(built, "avx512_bf16 ");
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    if (d & (1u << 22)) strcat(built, "amx_bf16 ");
    if (d & (1u << 25)) strcat(built, "amx_int8 ");
  }
#endif
  size_t length = strlen(built);
  if (length) built[length - 1] = 0; else strcpy(built, "portable");
}

const char *fm_features(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, find_features);
  return feature_text;
}

static atomic_int chosen_threads = 0;

int fm_threads(void) {
  if (own_threads > 0) return own_threads;
  int count = atomic_load_explicit(&chosen_threads, memory_order_relaxed);
  if (count > 0) return count;
  // The processors this process may use, which can be fewer than the machine has.
  cpu_set_t allowed;
  count = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (count < 1) count = 1;
  const char *wanted = getenv("FERMATA_THREADS");
  if (wanted && atoi(wanted) > 0 && atoi(wanted) < count) count = atoi(wanted);
  fm_set_threads(count);
  return count;
}

void fm_set_threads(int count) {
  if (count < 1) count = 1;
  atomic_store_explicit(&chosen_threads, count, memory_order_relaxed);
  omp_set_max_active_levels(1);
  omp_set_num_threads(count);
}

void fm_adopt_thread_count(void) {
  // OpenMP keeps the count per calling thread.
  static _Thread_local int adopted = 0;
  int count = fm_threads();
  if (adopted == count) return;
  adopted = count;
  omp_set_num_threads(count);
}

int fm_thread_index(void) { return omp_get_thread_num(); }

typedef struct {
  int64_t count;
  void (*body)(void *, int64_t);
  void *context;
  int path;
  /// The processor that the caller runs on.
  int processor;
  _Atomic int64_t next;
} region;

// A thread that was woken on the caller's processor while another is free would share it for as long as the system leaves it
// there, a tenth of a second and more: everything takes twice the time. It moves away, and is bound to nothing afterwards.
static void leave_processor_of_caller(const region *r) {
  cpu_set_t allowed, others;
  if (omp_get_thread_num() == 0 || r->processor < 0 || sched_getcpu() != r->processor) return;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  others = allowed;
  CPU_CLR(r->processor, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
}

// What a body runs on does not depend on the thread that runs it.
static int enter(const region *r) {
  int before = own_path;
  own_path = r->path;
  return before;
}

static void static_region(void *data) {
  region *r = data;
  leave_processor_of_caller(r);
  int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
  int64_t first = r->count * me / threads, last = r->count * (me + 1) / threads;
  int before = enter(r);
  for (int64_t i = first; i < last; i++) r->body(r->context, i);
  own_path = before;
}

static void dynamic_region(void *data) {
  region *r = data;
  leave_processor_of_caller(r);
  int before = enter(r);
  for (;;) {
    int64_t i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
    if (i >= r->count) break;
    r->body(r->context, i);
  }
  own_path = before;
}

static void run_region(region *r, void (*entry)(void *)) {
  int threads = fm_threads();
  if (threads > r->count) threads = (int)r->count;
  if (threads <= 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < r->count; i++) r->body(r->context, i);
    return;
  }
  r->processor = sched_getcpu();
  GOMP_parallel(entry, r, (unsigned)threads, 0);
}

void fm_parallel(int64_t count, void (*body)(void *, int64_t), void *context) {
  region r = {count, body, context, own_path, -1, 0};
  run_region(&r, static_region);
}

void fm_parallel_dynamic(int64_t count, void (*body)(void *, int64_t), void *context) {
  region r = {count, body, context, own_path, -1, 0};
  run_region(&r, dynamic_region);
}

fm_memory_account *fm_thread_memory(void) {
  static _Thread_local fm_memory_account account;
  return &account;
}

fm_work_account *fm_thread_work(void) {
  static _Thread_local fm_work_account account;
  return &account;
}

int fm_streams(const void *y, int64_t bytes, int64_t row_bytes) {
  return bytes >= (int64_t)64 << 20 && (uintptr_t)y % 64 == 0 && row_bytes % 64 == 0;
}

#define HUGE_PAGE ((size_t)2 << 20)

void *fm_map_memory(size_t bytes) {
  // Blocks of several huge pages are aligned to one, so that the system can back them with huge pages at the first touch.
  size_t slack = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 0;
  char *p = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  if (slack) {
    char *aligned = (char *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    if (aligned > p) munmap(p, (size_t)(aligned - p));
    size_t tail = (size_t)(p + bytes + slack - (aligned + bytes));
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *end = (char *)(((uintptr_t)aligned + bytes + page - 1) & ~(uintptr_t)(page - 1));
    if (tail >= page && end < p + bytes + slack) munmap(end, (size_t)(p + bytes + slack - end));
    p = aligned;
    madvise(p, bytes, MADV_HUGEPAGE);
  }
  return p;
}

void fm_unmap_memory(void *pointer, size_t bytes) { munmap(pointer, bytes); }
void fm_poison(void *pointer, size_t bytes) { memset(pointer, 0xff, bytes); }
