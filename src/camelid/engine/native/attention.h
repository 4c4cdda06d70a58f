#pragma once
// Attention over keys and values in blocks (see blocks.h).
//
// Up to 16 queries of one key-value head attend together: rows of one sequence that follow each other, and
// the heads that share keys. A query's result does not depend on which others attend with it, bit for bit.

#include "attention_amx.h"
#include "dense.h"

// Vectors of keys or values that are summed at once for up to four queries: as many as registers hold.
#ifdef __AVX512F__
enum { SCORED_BLOCKS = 2, MIXED_VECTORS = 4 };
#else
enum { SCORED_BLOCKS = 1, MIXED_VECTORS = 1 };
#endif

// The two bfloat16 of each unit.
FUNCTION_1(floats, even_half, floats, (float_part)((uint_part)a << 16))
FUNCTION_1(floats, odd_half, floats, (float_part)((uint_part)a & 0xffff0000))

// sum + v * w over units.
INLINE floats add_unit(int kind, floats sum, floats v, float w) {
    if (kind == FLOAT32) return fused(v, splat(w), sum);
#ifdef __AVX512BF16__
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)v, (__m512bh)_mm512_set1_ps(w));
#else
    floats unit = splat_bits(w);
    return fused(odd_half(v), odd_half(unit), fused(even_half(v), even_half(unit), sum));
#endif
}

INLINE float unit_at(const char *from) {
    float unit;
    memcpy(&unit, from, sizeof unit);
    return unit;
}

// N vectors of units times one unit.
INLINE Vectors add_units(int kind, int N, Vectors sums, Vectors v, float w) {
    sums.a = add_unit(kind, sums.a, v.a, w);
    if (N > 1) sums.b = add_unit(kind, sums.b, v.b, w);
    if (N > 2) sums.c = add_unit(kind, sums.c, v.c, w), sums.d = add_unit(kind, sums.d, v.d, w);
    return sums;
}

// sums + k * q[i] over one unit, for R queries of `bytes` bytes.
INLINE Vectors add_scores(int kind, int R, Vectors sums, floats k, const char *q, int64_t bytes) {
    sums.a = add_unit(kind, sums.a, k, unit_at(q));
    if (R > 1) sums.b = add_unit(kind, sums.b, k, unit_at(q + bytes));
    if (R > 2) sums.c = add_unit(kind, sums.c, k, unit_at(q + 2 * bytes));
    if (R > 3) sums.d = add_unit(kind, sums.d, k, unit_at(q + 3 * bytes));
    return sums;
}

INLINE void store_scores(int R, float *to, int64_t row, Vectors sums) {
    store_all(FLOAT32, to, sums.a);
    if (R > 1) store_all(FLOAT32, to + row, sums.b);
    if (R > 2) store_all(FLOAT32, to + 2 * row, sums.c);
    if (R > 3) store_all(FLOAT32, to + 3 * row, sums.d);
}

// scores[i][p] = q[i] . k[p] over N blocks of 16 positions, 1 or 2, and R queries of `bytes` bytes; what is
// read `next` is fetched meanwhile. Two blocks at a time, since a sum has to wait for its last addition.
INLINE void score(int kind, int R, int N, const char *q, Pair keys, Pair next, int64_t bytes, float *scores,
                  int64_t row) {
    Vectors zero = {splat(0), splat(0), splat(0), splat(0)}, one = zero, two = zero;
    for (int64_t at = 0; at < bytes; at += UNIT) {
        int64_t place = at / UNIT * sizeof(floats);
        __builtin_prefetch(next.first + place);
        if (N > 1) __builtin_prefetch(next.second + place);
        one = add_scores(kind, R, one, load(FLOAT32, keys.first + place), q + at, bytes);
        if (N > 1) two = add_scores(kind, R, two, load(FLOAT32, keys.second + place), q + at, bytes);
    }
    store_scores(R, scores, row, one);
    if (N > 1) store_scores(R, scores + KV_BLOCK, row, two);
}

INLINE void score_blocks(int kind, int R, int blocks, const char *q, Pair keys, Pair next, int64_t bytes,
                         float *scores, int64_t row) {
    if (blocks == 1 || SCORED_BLOCKS == 1) score(kind, R, 1, q, keys, next, bytes, scores, row);
    else score(kind, R, 2, q, keys, next, bytes, scores, row);
    if (blocks == 1 || SCORED_BLOCKS == 2) return;
    Pair second = {keys.second, keys.second}, then = {next.second, next.second};
    score(kind, R, 1, q, second, then, bytes, scores + KV_BLOCK, row);
}

INLINE Vectors load_vectors(int N, const char *from) {
    int bytes = sizeof(floats);
    return (Vectors){load(FLOAT32, from), N > 1 ? load(FLOAT32, from + bytes) : splat(0),
                     N > 2 ? load(FLOAT32, from + 2 * bytes) : splat(0),
                     N > 2 ? load(FLOAT32, from + 3 * bytes) : splat(0)};
}

INLINE void store_vectors(int N, float *to, Vectors all) {
    store_all(FLOAT32, to, all.a);
    if (N > 1) store_all(FLOAT32, to + LANES, all.b);
    if (N > 2) store_all(FLOAT32, to + 2 * LANES, all.c), store_all(FLOAT32, to + 3 * LANES, all.d);
}

// mixed[i] += weights[i] . values over one or two blocks, for R queries and N vectors of 16 dimensions, 1, 2
// or 4, from `at` on.
INLINE void mix(int kind, int R, int N, const char *weights, int64_t row, Pair values, int blocks, int stride,
                int at, float *mixed) {
    float *to = mixed + at;
    Vectors zero = {splat(0), splat(0), splat(0), splat(0)}, r0 = load_vectors(N, (char *)to), r1 = zero,
            r2 = zero, r3 = zero;
    if (R > 1) r1 = load_vectors(N, (char *)(to + stride));
    if (R > 2) r2 = load_vectors(N, (char *)(to + 2 * stride));
    if (R > 3) r3 = load_vectors(N, (char *)(to + 3 * stride));
    for (int block = 0; block < blocks; block++) {
        const char *from = (block ? values.second : values.first) + at * UNIT;
        for (int step = 0; step < KV_BLOCK * itemsize(kind) / UNIT; step++, weights += UNIT) {
            Vectors v = load_vectors(N, from + (int64_t)step * stride * UNIT);
            r0 = add_units(kind, N, r0, v, unit_at(weights));
            if (R > 1) r1 = add_units(kind, N, r1, v, unit_at(weights + row));
            if (R > 2) r2 = add_units(kind, N, r2, v, unit_at(weights + 2 * row));
            if (R > 3) r3 = add_units(kind, N, r3, v, unit_at(weights + 3 * row));
        }
    }
    store_vectors(N, to, r0);
    if (R > 1) store_vectors(N, to + stride, r1);
    if (R > 2) store_vectors(N, to + 2 * stride, r2);
    if (R > 3) store_vectors(N, to + 3 * stride, r3);
}

INLINE void mix_all(int kind, int R, const char *weights, int64_t row, Pair values, int blocks, int stride,
                    float *mixed) {
    int at = 0;
    for (; at + MIXED_VECTORS * LANES <= stride; at += MIXED_VECTORS * LANES)
        mix(kind, R, MIXED_VECTORS, weights, row, values, blocks, stride, at, mixed);
    if (at < stride) mix(kind, R, 2, weights, row, values, blocks, stride, at, mixed);
}

// Calls the code for 1, 2, 3 and 4 queries each, for as many as are left.
#define BY_FOURS(i, count, CALL) \
    for (int i = 0; i < (count); i += 4) switch ((count) - i) { \
            case 1: CALL(1); break; \
            case 2: CALL(2); break; \
            case 3: CALL(3); break; \
            default: CALL(4); \
        }

// softmax(q k^T / sqrt(dim)) v of `count` queries, each over positions begins[i]..ends[i]-1.
// q: [count, stride] of `kind`; scores: [count, row]; mixed: [count, stride]; after: keys that are fetched
// for what comes next.
INLINE void attend_kind(int kind, int count, int dim, const char *q, const Past *keys, const Past *values,
                        const Past *after, const int *begins, const int *ends, float *scores, int64_t row,
                        char *scratch, float *mixed) {
    int stride = keys->stride, from = keys->begin, to = keys->end, base = from * KV_BLOCK;
    int64_t bytes = (int64_t)stride * itemsize(kind);
    float sums[QUERIES];
    for (int block = from; block < to; block += 2) {
        int blocks = block + 1 < to ? 2 : 1;
        Pair k = pair_of(keys, 1, block, blocks, scratch);
        Pair next = {ahead_of(keys, block, values), ahead_of(keys, block + 1, values)};
        float *at = scores + block * KV_BLOCK - base;
#define SCORE(R) score_blocks(kind, R, blocks, q + i * bytes, k, next, bytes, at + i * row, row)
        BY_FOURS(i, count, SCORE)
    }
    for (int i = 0; i < count; i++)
        sums[i] = softmax(kind, scores + i * row, begins[i] - base, ends[i] - base, to * KV_BLOCK - base,
                          1.0f / sqrtf(dim));
    memset(mixed, 0, 4 * (int64_t)count * stride);
    for (int block = from; block < to; block += 2) {
        int blocks = block + 1 < to ? 2 : 1;
        Pair v = pair_of(values, 0, block, blocks, scratch);
        const char *weights = (char *)scores + (block * KV_BLOCK - base) * itemsize(kind);
        for (int n = 0; n < blocks; n++) fetch_block(ahead_of(values, block + n, after), KV_BLOCK * bytes);
#define MIX(R) mix_all(kind, R, weights + i * 4 * row, 4 * row, v, blocks, stride, mixed + i * stride)
        BY_FOURS(i, count, MIX)
    }
    for (int i = 0; i < count; i++)
        for (int d = 0; d < dim; d++) mixed[i * stride + d] /= sums[i];
}

// Bfloat16 in AMX, where there is one and vectors fit into its registers: whether there are one or many
// queries.
static void attend_together(int count, int dim, const char *q, const Past *keys, const Past *values,
                            const Past *after, const int *begins, const int *ends, float *scores, int64_t row,
                            char *scratch, float *mixed) {
    if (keys->kind == FLOAT32)
        attend_kind(FLOAT32, count, dim, q, keys, values, after, begins, ends, scores, row, scratch, mixed);
    else if (keys->stride <= MOST_AMX_DIMENSIONS && may_use_amx())
        attend_amx(count, dim, q, keys, values, after, begins, ends, scores, row, scratch, mixed);
    else attend_kind(BFLOAT16, count, dim, q, keys, values, after, begins, ends, scores, row, scratch, mixed);
}
