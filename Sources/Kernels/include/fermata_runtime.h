// Element types, processor paths, the thread pool and memory.
#ifndef FERMATA_RUNTIME_H
#define FERMATA_RUNTIME_H
#include <stddef.h>
#include <stdint.h>

/// Element types that kernels read and write.
typedef enum { FM_F32 = 0, FM_BF16 = 1, FM_I32 = 2, FM_I64 = 3, FM_U8 = 4 } fm_type;

/// Processor paths, poorest first. Each contains the ones before it; the last is for tests.
typedef enum {
  FM_PORTABLE = 0,     // the compiler's baseline, 4 lanes
  FM_AVX2 = 1,         // AVX2, FMA, F16C: 8 lanes
  FM_AVX512 = 2,       // AVX-512 F, BW, DQ, VL: 16 lanes
  FM_AVX512_BF16 = 3,  // and AVX-512 BF16: dot products of bf16 pairs
  FM_AMX = 4,          // and AMX: bf16 products of tiles, in attention and scans; the rest is avx512_bf16's
  FM_AMX_EMULATED = 5, // amx with its tile instructions emulated, on any processor: for tests, slow
} fm_path_kind;

/// The best path this processor has; never the emulated one.
int fm_best_path(void);
/// Whether this processor has a path.
int fm_has_path(int path);
/// The path in use: the best one, or what FERMATA_PATH (a path's name) or `fm_set_path` asked for.
int fm_path(void);
/// Which of the variants that kernels are compiled for (portable to avx512_bf16) serves the path in use.
int fm_variant(void);
/// Forces a path for this process, before kernels run: one that is running may have laid out its scratch memory for another. Returns 0, or -1 when the processor lacks it.
int fm_set_path(int path);
/// Forces path and threads for what the calling thread calls from now on, and for nobody else; -1 and 0 undo it. For tests
/// and measurements that compare paths while others work.
void fm_override(int path, int threads);
/// The path's name as FERMATA_PATH spells it; NULL when there is none of that number.
const char *fm_path_name(int path);
/// The processor's features that matter here, for benchmark tables ("avx2 fma avx512f …").
const char *fm_features(void);

/// Threads that kernels use (the thread running the caller included).
int fm_threads(void);
/// Sets the number of threads, oneDNN's included. Values below 1 become 1.
void fm_set_threads(int count);
/// Makes oneDNN calls from this thread use `fm_threads()` threads; cheap, called before each of them.
void fm_adopt_thread_count(void);
/// Runs body(context, index) for every index in 0..<count on the pool shared with oneDNN (libgomp).
/// Called inside another region it runs on the calling thread alone.
/// Each thread takes one contiguous run of indices.
void fm_parallel(int64_t count, void (*body)(void *context, int64_t index), void *context);
/// Like fm_parallel, but threads take the next index as they become free: for uneven work.
void fm_parallel_dynamic(int64_t count, void (*body)(void *context, int64_t index), void *context);
/// The index of the calling thread inside a region, 0 outside.
int fm_thread_index(void);

/// Bytes of tensors that the calling thread has taken and not given back since it last set this to zero, and the most there
/// were: a measurement that other threads cannot disturb.
typedef struct {
  int64_t live, peak;
} fm_memory_account;
fm_memory_account *fm_thread_memory(void);

/// What the calling thread has done so far; only differences mean something.
typedef struct {
  int64_t flops, bytes;   // as operations count them
  int64_t allocations;    // blocks handed out for tensors
  int64_t primitives;     // of oneDNN, made because no kept one fitted
} fm_work_account;
fm_work_account *fm_thread_work(void);

/// Whether a kernel that does nothing but write `bytes` of results to y, rows of `row_bytes`, should store them past the caches:
/// they are larger than the caches, so that storing would first read what is overwritten and push out what is not.
int fm_streams(const void *y, int64_t bytes, int64_t row_bytes);

/// Page-aligned memory straight from the system, large blocks advised to use huge pages; NULL when there is none.
void *fm_map_memory(size_t bytes);
void fm_unmap_memory(void *pointer, size_t bytes);
/// Fills with 0xFF bytes: NaN in every floating type.
void fm_poison(void *pointer, size_t bytes);
#endif
