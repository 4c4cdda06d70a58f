#pragma once
// Packed weights, scale * (code - zero), a scale and a zero point for each group of inputs of an output; and
// the rows of activations that they are multiplied with.
//
// Sixteen outputs make a tile. A line of 64 bytes holds, for each output of a tile, the codes of four inputs:
// at 8 bits the first four; at 4 bits eight, the first four in the low halves of the bytes, the others in the
// high ones. A tile's lines follow each other along the inputs, so that weights stream straight through.

#include "dense.h"

enum { INT8 = 2, INT4 = 3 };  // beside FLOAT32 and BFLOAT16
enum { LARGEST_SEGMENT = 64 };

// Rows of activations as packed products read them.
typedef struct {
    int8_t *codes;  // [rows, stride]; whole sixteens of rows can be read
    float *scales;  // [rows, segments]: of a code
    int32_t *owing;  // [rows, segments]: minus the sum of the codes, by which zero points are taken off
    float *whole;  // [rows, stride], instead of the three, where products are done in float32
    int32_t stride, segments, segment;
} Activations;

// Fetches into the second cache what comes two small pages later: hardware prefetchers stop at the end of a
// page.
INLINE void fetch_ahead(const char *line) {
    if (!ONE_STREAM) __builtin_prefetch(line + 8192, 0, 2);
}

INLINE int inputs_of_line(int kind) { return kind == INT4 ? 8 : 4; }
INLINE int lines(const Linear *l) {
    return (l->inner + inputs_of_line(l->kind) - 1) / inputs_of_line(l->kind);
}
INLINE int tiles(const Linear *l) { return (l->outer + LANES - 1) / LANES; }
INLINE int groups(const Linear *l) { return (l->inner + l->group - 1) / l->group; }
INLINE const char *tile_lines(const Linear *l, int tile) {
    return (const char *)l->weight + (int64_t)tile * lines(l) * 64;
}

INLINE floats group_scale(const Linear *l, int64_t tile, int group) {
    int64_t at = (tile * groups(l) + group) * LANES;
    return load(l->scale_kind, (const char *)l->scales + at * itemsize(l->scale_kind));
}

INLINE ints group_zero(const Linear *l, int64_t tile, int group) {
    return widen(l->zeros + (tile * groups(l) + group) * l->zero_step);
}
