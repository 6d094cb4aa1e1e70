#include "fuzz_watch.h"

#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static atomic_long live, peak, largest;
static char label[200];
static int limit;

static void note_block(size_t bytes) {
  long now = atomic_fetch_add(&live, (long)bytes) + (long)bytes;
  long seen = atomic_load(&peak);
  while (now > seen && !atomic_compare_exchange_weak(&peak, &seen, now)) {}
  seen = atomic_load(&largest);
  while ((long)bytes > seen && !atomic_compare_exchange_weak(&largest, &seen, (long)bytes)) {}
}

static void note_free(size_t bytes) { atomic_fetch_sub(&live, (long)bytes); }

static void say(const char *text) {
  ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written;
}

static void print_label(void) {
  say("\nfuzz: the process ends at ");
  say(label);
  say("\n");
}

static void end_in_signal(int number) {
  if (number == SIGPROF || number == SIGALRM) say("\nfuzz: the case takes too long");
  print_label();
  signal(number, SIG_DFL);
  raise(number);
}

static void handle(int number) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = end_in_signal;
  action.sa_flags = SA_ONSTACK;
  sigaction(number, &action, NULL);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef FUZZ_ADDRESS_SANITIZER

// The sanitizer owns malloc and the signals of crashes, and tells of both.
int __sanitizer_install_malloc_and_free_hooks(
    void (*malloc_hook)(const volatile void *, size_t), void (*free_hook)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *);
void __sanitizer_set_death_callback(void (*callback)(void));

static void hook_block(const volatile void *block, size_t bytes) { (void)block; note_block(bytes); }
static void hook_free(const volatile void *block) { if (block) note_free(__sanitizer_get_allocated_size(block)); }

static void watch_process(void) {
  __sanitizer_install_malloc_and_free_hooks(hook_block, hook_free);
  __sanitizer_set_death_callback(print_label);
  handle(SIGILL);
  handle(SIGTRAP);
}

#else

// The program's own malloc comes before the C library's, and calls it.
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static void *noted(void *block) {
  if (block) note_block(malloc_usable_size(block));
  return block;
}

void *malloc(size_t bytes) { return noted(__libc_malloc(bytes)); }
void *calloc(size_t count, size_t bytes) { return noted(__libc_calloc(count, bytes)); }
void *aligned_alloc(size_t alignment, size_t bytes) { return noted(__libc_memalign(alignment, bytes)); }
int posix_memalign(void **block, size_t alignment, size_t bytes) {
  *block = noted(__libc_memalign(alignment, bytes));
  return *block ? 0 : 12;
}
void *realloc(void *block, size_t bytes) {
  if (block) note_free(malloc_usable_size(block));
  return noted(__libc_realloc(block, bytes));
}
void free(void *block) {
  if (block) note_free(malloc_usable_size(block));
  __libc_free(block);
}

static void watch_process(void) {
  static char stack[1 << 16];
  stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&other, NULL);
  int numbers[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) handle(numbers[i]);
}

#endif

void fuzz_watch(int seconds) {
  limit = seconds;
  watch_process();
  handle(SIGPROF);
  handle(SIGALRM);
}

void fuzz_begin(const char *text) {
  strncpy(label, text, sizeof label - 1);
  struct itimerval timer = {.it_value = {.tv_sec = limit}};
  setitimer(ITIMER_PROF, &timer, NULL);
  alarm((unsigned)limit * 10);
  atomic_store(&live, 0);
  atomic_store(&peak, 0);
  atomic_store(&largest, 0);
}

int64_t fuzz_peak(void) { return atomic_load(&peak); }
int64_t fuzz_largest(void) { return atomic_load(&largest); }
