// Watches one case of the fuzzer at a time: what it allocates, how long it takes, and what to print when it ends the process.
#ifndef FUZZ_WATCH_H
#define FUZZ_WATCH_H

#include <stdint.h>

// Begins to watch. From here on a crash, a trap, an error of the address sanitizer, or a case that takes more than `seconds`
// of processor time (or ten times as long by the clock) prints the case's label and ends the process.
void fuzz_watch(int seconds);

// Begins a case. The label is copied.
void fuzz_begin(const char *label);

// Bytes that the case has held at most, above what there was when it began, and its largest single block. Blocks are
// malloc's; what tensors map from the system directly is counted by the library.
int64_t fuzz_peak(void);
int64_t fuzz_largest(void);

#endif
