#pragma once
// Attention over keys and values that lie in blocks of 16 positions, block after block through a sequence's table.
//
// Up to 16 queries of one key-value head attend together: rows of one sequence that follow each other, and the heads that
// share keys. A query's result does not depend on which others attend with it, bit for bit.
//
// A block's numbers stand in units of 4 bytes, a float or two neighbouring bfloat16: keys as [unit of a vector, position], so
// that 16 scores are summed side by side; values as [position, or two of them, dimension].

#include "packed.h"

enum { KV_BLOCK = 16, QUERIES = 16, UNIT = 4 };

// Keys or values of one layer and one key-value head. At 8 bits a position's vector has a scale of its own, behind the
// block's codes.
typedef struct {
    char *first;             // of block 0
    int64_t block_bytes;     // from a block to the next
    const int32_t *table;
    int32_t kind, packed, stride;  // packed: 8-bit codes that are turned into `kind`; stride: padded head_dim
    int32_t begin, end;            // blocks of the table that are read
} Past;

INLINE char *block_at(const Past *past, int index) {
    return past->first + past->table[index] * past->block_bytes;
}

// sum + v * w over units.
INLINE floats add_unit(int kind, floats sum, floats v, float w) {
    if (kind == FLOAT32) return fused(v, splat(w), sum);
#ifdef __AVX512BF16__
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)v, (__m512bh)_mm512_set1_ps(w));
#else
    union { float unit; uint32_t bits; } pair = {w};
    union { uint32_t bits; float value; } even = {pair.bits << 16}, odd = {pair.bits & 0xffff0000};
    floats first = (floats)((words)v << 16), second = (floats)((words)v & 0xffff0000);
    return fused(second, splat(odd.value), fused(first, splat(even.value), sum));
#endif
}

INLINE float unit_at(const char *from) {
    float unit;
    memcpy(&unit, from, sizeof unit);
    return unit;
}

// Four vectors of units times one unit.
INLINE Vectors add_units(int kind, Vectors sums, Vectors v, float w) {
    return (Vectors){add_unit(kind, sums.a, v.a, w), add_unit(kind, sums.b, v.b, w), add_unit(kind, sums.c, v.c, w),
                     add_unit(kind, sums.d, v.d, w)};
}

// Where value `i` of position `p` of a block lies, in numbers of `kind`.
INLINE int key_place(int kind, int p, int i) {
    int count = UNIT / itemsize(kind);
    return (i / count * KV_BLOCK + p) * count + i % count;
}
INLINE int value_place(int kind, int stride, int p, int i) {
    int count = UNIT / itemsize(kind);
    return (p / count * stride + i) * count + p % count;
}

// Writes `dim` numbers of `kind`, of one position of a block, to their places.
INLINE void scatter(int kind, int is_key, int stride, int position, const char *numbers, int dim, char *block) {
    int size = itemsize(kind);
    for (int i = 0; i < dim; i++) {
        int place = is_key ? key_place(kind, position, i) : value_place(kind, stride, position, i);
        memcpy(block + place * size, numbers + i * size, size);
    }
}

// Fetches the lines of memory that `keep` writes to, all of them at once.
static void fetch_places(const Past *past, int is_key, int position) {
    int offset = position % KV_BLOCK, stride = past->stride, size = itemsize(past->kind);
    char *block = block_at(past, position / KV_BLOCK);
    if (past->packed) {
        __builtin_prefetch(block + offset * stride, 1);
        return;
    }
    for (int i = 0; i < stride; i += is_key ? UNIT / size : LANES) {
        int place = is_key ? key_place(past->kind, offset, i) : value_place(past->kind, stride, offset, i);
        __builtin_prefetch(block + place * size, 1);
    }
}

// Writes the vector of one position.
static void keep(const Past *past, int is_key, int position, const float *vector, int dim) {
    int offset = position % KV_BLOCK, stride = past->stride;
    char *block = block_at(past, position / KV_BLOCK);
    if (past->packed) {
        float most = 0;
        for (int i = 0; i < dim; i++) most = fmaxf(most, fabsf(vector[i]));
        int8_t *codes = (int8_t *)block + offset * stride;
        for (int i = 0; i < dim; i++) codes[i] = (int8_t)rintf(most > 0 ? vector[i] * (127 / most) : 0);
        ((float *)(block + KV_BLOCK * stride))[offset] = most / 127;
        return;
    }
    char numbers[4 * dim];
    store(past->kind, numbers, vector, dim);
    if (past->kind == FLOAT32) scatter(FLOAT32, is_key, stride, offset, numbers, dim, block);
    else if (is_key) scatter(BFLOAT16, 1, stride, offset, numbers, dim, block);
    else scatter(BFLOAT16, 0, stride, offset, numbers, dim, block);
}

// Where the block lies that is read two blocks later: of `past`, or behind its last one of `after`.
INLINE const char *ahead_of(const Past *past, int block, const Past *after) {
    int ahead = block + 2;
    if (ahead < past->end) return block_at(past, ahead);
    ahead += after->begin - past->end;
    return block_at(after, ahead < after->end ? ahead : after->end - 1);
}

INLINE const char *block_of(const Past *past, int is_key, int block, char *scratch) {
    const char *at = block_at(past, block);
    if (!past->packed) return at;
    int stride = past->stride, kind = past->kind;
    const float *scales = (const float *)(at + KV_BLOCK * stride);
    for (int p = 0; p < KV_BLOCK; p++)
        for (int i = 0; i < stride; i += LANES) {
            char few[4 * LANES], *to = scratch + (is_key ? key_place(kind, 0, i) : value_place(kind, stride, 0, i)) * itemsize(kind);
            store_all(kind, few, widen_signed(at + p * stride + i) * splat(scales[p]));
            scatter(kind, is_key, stride, p, few, LANES, to);
        }
    return scratch;
}

// Two neighbouring blocks, or twice the same one where there is no second.
typedef struct {
    const char *first, *second;
} Pair;

// Two blocks, or one, `scratch` having room for both.
INLINE Pair pair_of(const Past *past, int is_key, int block, int blocks, char *scratch) {
    const char *first = block_of(past, is_key, block, scratch);
    int64_t bytes = (int64_t)KV_BLOCK * past->stride * itemsize(past->kind);
    return (Pair){first, blocks > 1 ? block_of(past, is_key, block + 1, scratch + bytes) : first};
}

// Lanes p..p+15 where they are in begin..end-1, else `other`.
INLINE floats within(int p, int begin, int end, floats all, float other) {
    if (p >= begin && p + LANES <= end) return all;
    return choose((COUNT + p >= begin) & (COUNT + p < end), all, splat(other));
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

// scores[i][p] = q[i] . k[p] over N blocks of 16 positions, 1 or 2, and R queries of `bytes` bytes; what is read `next` is fetched
// meanwhile. Two blocks at a time, since a sum has to wait for its last addition.
INLINE void score(int kind, int R, int N, const char *q, Pair keys, Pair next, int64_t bytes, float *scores, int64_t row) {
    Vectors one = {0}, two = {0};
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

// Turns the scores of positions begin..end-1 into exp(scale * (score - maximum)), all others up to `width` into 0, as numbers of
// `kind` from the row's beginning on; returns their sum.
INLINE float softmax(int kind, float *scores, int begin, int end, int width, float scale) {
    floats highest = splat(-INFINITY), sum = splat(0);
    for (int p = 0; p < width; p += LANES) {
        floats all = within(p, begin, end, load(FLOAT32, scores + p), -INFINITY);
        highest = choose(all > highest, all, highest);
    }
    floats most = splat(largest(highest) * -scale);
    for (int p = 0; p < width; p += LANES) {
        char *to = (char *)scores + p * itemsize(kind);
        floats all = exponential(fused(load(FLOAT32, scores + p), splat(scale), most));
        store_all(kind, to, within(p, begin, end, all, 0));
        sum += load(kind, to);
    }
    return total(sum);
}

INLINE Vectors load_vectors(int N, const char *from) {
    int bytes = sizeof(floats);
    return (Vectors){load(FLOAT32, from), load(FLOAT32, from + bytes), N > 2 ? load(FLOAT32, from + 2 * bytes) : splat(0),
                     N > 2 ? load(FLOAT32, from + 3 * bytes) : splat(0)};
}

INLINE void store_vectors(int N, float *to, Vectors all) {
    store_all(FLOAT32, to, all.a), store_all(FLOAT32, to + LANES, all.b);
    if (N > 2) store_all(FLOAT32, to + 2 * LANES, all.c), store_all(FLOAT32, to + 3 * LANES, all.d);
}

// mixed[i] += weights[i] . values over one or two blocks, for R queries and N vectors of 16 dimensions, 2 or 4, from `at` on.
INLINE void mix(int kind, int R, int N, const char *weights, int64_t row, Pair values, int blocks, int stride, int at, float *mixed) {
    float *to = mixed + at;
    Vectors zero = {0}, r0 = load_vectors(N, (char *)to), r1 = zero, r2 = zero, r3 = zero;
    if (R > 1) r1 = load_vectors(N, (char *)(to + stride));
    if (R > 2) r2 = load_vectors(N, (char *)(to + 2 * stride));
    if (R > 3) r3 = load_vectors(N, (char *)(to + 3 * stride));
    for (int block = 0; block < blocks; block++) {
        const char *from = (block ? values.second : values.first) + at * UNIT;
        for (int step = 0; step < KV_BLOCK * itemsize(kind) / UNIT; step++, weights += UNIT) {
            Vectors v = load_vectors(N, from + (int64_t)step * stride * UNIT);
            r0 = add_units(kind, r0, v, unit_at(weights));
            if (R > 1) r1 = add_units(kind, r1, v, unit_at(weights + row));
            if (R > 2) r2 = add_units(kind, r2, v, unit_at(weights + 2 * row));
            if (R > 3) r3 = add_units(kind, r3, v, unit_at(weights + 3 * row));
        }
    }
    store_vectors(N, to, r0);
    if (R > 1) store_vectors(N, to + stride, r1);
    if (R > 2) store_vectors(N, to + 2 * stride, r2);
    if (R > 3) store_vectors(N, to + 3 * stride, r3);
}

INLINE void mix_all(int kind, int R, const char *weights, int64_t row, Pair values, int blocks, int stride, float *mixed) {
    int at = 0;
    for (; at + 4 * LANES <= stride; at += 4 * LANES) mix(kind, R, 4, weights, row, values, blocks, stride, at, mixed);
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
// q: [count, stride] of `kind`; scores: [count, row]; mixed: [count, stride]; after: keys that are fetched for what comes next.
INLINE void attend_kind(int kind, int count, int dim, const char *q, const Past *keys, const Past *values, const Past *after,
                        const int *begins, const int *ends, float *scores, int64_t row, char *scratch, float *mixed) {
    int stride = keys->stride, from = keys->begin, to = keys->end, base = from * KV_BLOCK;
    int64_t bytes = (int64_t)stride * itemsize(kind);
    float sums[QUERIES];
    for (int block = from; block < to; block += 2) {
        int blocks = block + 1 < to ? 2 : 1;
        Pair k = pair_of(keys, 1, block, blocks, scratch);
        Pair next = {ahead_of(keys, block, values), ahead_of(keys, block + 1, values)};
        float *at = scores + block * KV_BLOCK - base;
#define SCORE(R) blocks > 1 ? score(kind, R, 2, q + i * bytes, k, next, bytes, at + i * row, row) \
                            : score(kind, R, 1, q + i * bytes, k, next, bytes, at + i * row, row)
        BY_FOURS(i, count, SCORE)
    }
    for (int i = 0; i < count; i++)
        sums[i] = softmax(kind, scores + i * row, begins[i] - base, ends[i] - base, to * KV_BLOCK - base, 1.0f / sqrtf(dim));
    memset(mixed, 0, 4 * (int64_t)count * stride);
    for (int block = from; block < to; block += 2) {
        int blocks = block + 1 < to ? 2 : 1;
        Pair v = pair_of(values, 0, block, blocks, scratch);
        const char *weights = (char *)scores + (block * KV_BLOCK - base) * itemsize(kind);
        for (int n = 0; n < blocks; n++) {
            const char *next = ahead_of(values, block + n, after);
            for (int64_t at = 0; at < KV_BLOCK * bytes; at += sizeof(floats)) __builtin_prefetch(next + at);
        }
#define MIX(R) mix_all(kind, R, weights + i * 4 * row, 4 * row, v, blocks, stride, mixed + i * stride)
        BY_FOURS(i, count, MIX)
    }
    for (int i = 0; i < count; i++)
        for (int d = 0; d < dim; d++) mixed[i * stride + d] /= sums[i];
}

static void attend_together(int count, int dim, const char *q, const Past *keys, const Past *values, const Past *after,
                            const int *begins, const int *ends, float *scores, int64_t row, char *scratch, float *mixed) {
    if (keys->kind == FLOAT32)
        attend_kind(FLOAT32, count, dim, q, keys, values, after, begins, ends, scores, row, scratch, mixed);
    else attend_kind(BFLOAT16, count, dim, q, keys, values, after, begins, ends, scores, row, scratch, mixed);
}
