#pragma once
// Attention of up to 16 queries in AMX: blocks of keys and values lie as it takes them, units of two bfloat16
// side by side.

#include "amx.h"
#include "blocks.h"
#include "softmax.h"

enum { MOST_AMX_DIMENSIONS = 128, DIMENSIONS = 32 };  // of a head; of one instruction

#ifdef AMX
// Registers: 0 to 3 are queries, and later sums; 4 scores, 5 keys; 6 weights of a block's positions, 7 its
// values.
static void shape_for_attention(void) {
    Shapes shapes = {0};
    for (int i = 0; i < 8; i++)
        shapes.row_bytes[i] = i == 6 ? 2 * KV_BLOCK : 64, shapes.rows[i] = i == 7 ? KV_BLOCK / 2 : AMX_ROWS;
    load_shapes(&shapes);
}

// scores[i][p] = q[i] . k[p] over a block; `row` bytes between the rows of scores. Queries are in registers.
INLINE void score_block(const char *keys, int stride, float *scores, int64_t row) {
    int64_t part = DIMENSIONS / 2 * KV_BLOCK * UNIT;
    _tile_zero(4);
#define SCORE_PART(n) \
    if (stride > n * DIMENSIONS) { \
        _tile_loadd(5, keys + n * part, KV_BLOCK * UNIT); \
        _tile_dpbf16ps(4, n, 5); \
    }
    SCORE_PART(0)
    SCORE_PART(1)
    SCORE_PART(2)
    SCORE_PART(3)
#undef SCORE_PART
    _tile_stored(4, scores, row);
}

// Registers 0 to 3, 64 dimensions from `values` on, += weights . values over a block; `row` bytes between the
// rows of weights.
INLINE void mix_block(const char *weights, int64_t row, const char *values, int stride, int dimensions) {
    _tile_loadd(6, weights, row);
#define MIX_PART(n) \
    if (dimensions > n * LANES) { \
        _tile_loadd(7, values + n * LANES * UNIT, stride * UNIT); \
        _tile_dpbf16ps(n, 6, 7); \
    }
    MIX_PART(0)
    MIX_PART(1)
    MIX_PART(2)
    MIX_PART(3)
#undef MIX_PART
}

INLINE void load_queries(const char *q, int stride) {
    int64_t bytes = 2 * (int64_t)stride;
    _tile_loadd(0, q, bytes);
    if (stride > DIMENSIONS) _tile_loadd(1, q + 64, bytes);
    if (stride > 2 * DIMENSIONS) _tile_loadd(2, q + 128, bytes);
    if (stride > 3 * DIMENSIONS) _tile_loadd(3, q + 192, bytes);
}

INLINE void zero_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

INLINE void store_sums(float *to, int stride, int dimensions) {
    _tile_stored(0, to, 4 * stride);
    if (dimensions > LANES) _tile_stored(1, to + LANES, 4 * stride);
    if (dimensions > 2 * LANES) _tile_stored(2, to + 2 * LANES, 4 * stride);
    if (dimensions > 3 * LANES) _tile_stored(3, to + 3 * LANES, 4 * stride);
}

// See attend_kind; all is bfloat16. What is read two blocks later is fetched meanwhile.
static void attend_amx(int count, int dim, const char *q, const Past *keys, const Past *values,
                       const Past *after, const int *begins, const int *ends, float *scores, int64_t row,
                       char *scratch, float *mixed) {
    int stride = keys->stride, from = keys->begin, to = keys->end, base = from * KV_BLOCK;
    int64_t bytes = KV_BLOCK * 2 * (int64_t)stride;
    float sums[QUERIES];
    WRITTEN();
    shape_for_attention();
    load_queries(q, stride);
    for (int block = from; block < to; block++) {
        const char *lies = block_of(keys, 1, block, scratch);
        fetch_block(ahead_of(keys, block, values), bytes);
        WRITTEN();
        score_block(lies, stride, scores + block * KV_BLOCK - base, 4 * row);
    }
    for (int i = 0; i < count; i++)
        sums[i] = softmax(BFLOAT16, scores + i * row, begins[i] - base, ends[i] - base, to * KV_BLOCK - base,
                          1.0f / sqrtf(dim));
    for (int at = 0; at < stride; at += 4 * LANES) {
        zero_sums();
        for (int block = from; block < to; block++) {
            const char *lies = block_of(values, 0, block, scratch);
            fetch_block(ahead_of(values, block, after), bytes);
            WRITTEN();
            mix_block((char *)scores + (block * KV_BLOCK - base) * 2, 4 * row, lies + at * UNIT, stride,
                      stride - at);
        }
        store_sums(mixed + at, stride, stride - at);
    }
    _tile_release();
    for (int i = 0; i < count; i++)
        for (int d = 0; d < dim; d++) mixed[i * stride + d] /= sums[i];
}
#else
static void attend_amx(int count, int dim, const char *q, const Past *keys, const Past *values,
                       const Past *after, const int *begins, const int *ends, float *scores, int64_t row,
                       char *scratch, float *mixed) {
    // may_use_amx says no
    (void)count, (void)dim, (void)q, (void)keys, (void)values, (void)after, (void)begins, (void)ends;
    (void)scores, (void)row, (void)scratch, (void)mixed;
}
#endif
