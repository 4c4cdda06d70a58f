#pragma once
// A linear as products take it.

#include "vectors.h"

enum { AHEAD = 4096 };

// Whether one row's weights are best read output by output with nothing fetched by hand, as AMD's processors
// had it where measured (fetching cost a sixth there), or by four outputs at a time and fetched two pages
// ahead, as Intel's (half as fast again).
#if defined(__tune_znver3__) || defined(__tune_znver4__) || defined(__tune_znver5__)
enum { ONE_STREAM = 1 };
#else
enum { ONE_STREAM = 0 };
#endif

typedef struct {
    const void *weight;  // [outer, inner]; of packed ones the lines (see lines.h)
    const float *bias;  // [outer], or NULL
    const void *scales;  // packed: [tiles, groups, 16]
    const uint8_t *zeros;  // packed: [tiles, groups, 16]
    int32_t kind, scale_kind, outer, inner, group;
    int32_t zero_step;  // from one group's zero points to the next: 16, or 0 where all are equal and the
                        // first serve for all
    // A low-rank update (LoRA), which adds U (A x): NULL and 0 without one.
    const void *low;  // A [rank, inner], in the model's kind
    const float *raise;  // U [rank, outer]
    int32_t rank, slot;  // slot: which of the results A x of one phase is its own
} Linear;

// Four vectors by names and not by numbers, so that compilers keep them in registers.
typedef struct {
    floats a, b, c, d;
} Vectors;

// The weights that come next in memory, which are fetched while these are multiplied: memory is fastest as
// one sequential stream. `ahead` lines for every line multiplied, over the 2^shift lines that a stored one
// turns into.
typedef struct {
    const char *from;
    int ahead, shift;
} Next;

INLINE int64_t fetched(Next next, int64_t multiplied) { return multiplied * next.ahead >> next.shift; }

// One output's bfloat16 weights as float32.
INLINE void widen_row(const Linear *l, int64_t output, float *to) {
    const char *from = (const char *)l->weight + output * l->inner * itemsize(BFLOAT16);
    int i = 0;
    for (; i + LANES <= l->inner; i += LANES) {
        __builtin_prefetch(from + i * itemsize(BFLOAT16) + AHEAD);
        store_all(FLOAT32, to + i, load(BFLOAT16, from + i * itemsize(BFLOAT16)));
    }
    for (; i < l->inner; i++) to[i] = load_one(BFLOAT16, from, i);
}
