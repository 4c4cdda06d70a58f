// Attention over keys and values that lie in blocks of 16 positions, block after block through a sequence's table.
//
// Up to 16 queries of one key-value head attend together: rows of one sequence that follow each other, and the heads that
// share keys. A query's result does not depend on which others attend with it, bit for bit.

#include "packed.h"

enum { KV_BLOCK = 16, QUERIES = 16 };

// Keys or values of one layer and one key-value head. At 8 bits a position's vector has a scale of its own, behind the
// block's codes.
typedef struct {
    const char *first;       // of block 0
    int64_t block_bytes;     // from a block to the next
    const int32_t *table;
    int32_t kind, packed, stride;  // packed: 8-bit codes that are turned into `kind`; stride: padded head_dim
} Past;

INLINE const char *block_of(const Past *past, int block, char *scratch) {
    const char *at = past->first + past->table[block] * past->block_bytes;
    if (!past->packed) return at;
    const float *scales = (const float *)(at + KV_BLOCK * past->stride);
    for (int p = 0; p < KV_BLOCK; p++)
        for (int i = 0; i < past->stride; i += LANES) {
            floats all = widen_signed(at + p * past->stride + i) * splat(scales[p]);
            store_all(past->kind, scratch + (p * past->stride + i) * itemsize(past->kind), all);
        }
    return scratch;
}

// scores[i][p] = q[i] . k[p] over whole blocks.
INLINE void score_block(int kind, int count, const char *q, const char *keys, int64_t bytes, float *scores, int64_t row) {
    for (int i = 0, taken; i < count; i += taken) {
        taken = count - i >= 4 ? 4 : count - i >= 2 ? 2 : 1;
        for (int p = 0; p < KV_BLOCK; p += 4) {
            const char *k = keys + p * bytes, *x = q + i * bytes;
            float *to = scores + i * row + p;
            if (taken == 4) tile(kind, 4, k, x, bytes, to, row, (Next){0});
            else if (taken == 2) tile(kind, 2, k, x, bytes, to, row, (Next){0});
            else tile(kind, 1, k, x, bytes, to, row, (Next){0});
        }
    }
}

// Turns the scores of positions begin..end-1 into exp(scale * score - maximum), all others up to `width` into 0; returns the sum.
static float softmax(float *scores, int begin, int end, int width, float scale) {
    floats highest = splat(-INFINITY), sum = splat(0);
    for (int p = 0; p < width; p += LANES) {
        ints seen = (COUNT + p >= begin) & (COUNT + p < end);
        floats all = choose(seen, load(FLOAT32, scores + p) * scale, splat(-INFINITY));
        highest = choose(all > highest, all, highest);
        store_all(FLOAT32, scores + p, all);
    }
    float most = largest(highest);
    for (int p = 0; p < width; p += LANES) {
        floats weights = exponential(load(FLOAT32, scores + p) - most);
        store_all(FLOAT32, scores + p, weights);
        sum += weights;
    }
    return total(sum);
}

INLINE Vectors add_weighted(Vectors sums, Vectors v, float weight) {
    floats w = splat(weight);
    return (Vectors){fused(v.a, w, sums.a), fused(v.b, w, sums.b), fused(v.c, w, sums.c), fused(v.d, w, sums.d)};
}

INLINE Vectors load_vectors(int kind, int N, const void *from) {
    const char *at = from;
    int bytes = LANES * itemsize(kind);
    return (Vectors){load(kind, at), load(kind, at + bytes), N > 2 ? load(kind, at + 2 * bytes) : splat(0),
                     N > 2 ? load(kind, at + 3 * bytes) : splat(0)};
}

INLINE void store_vectors(int N, float *to, Vectors all) {
    store_all(FLOAT32, to, all.a), store_all(FLOAT32, to + LANES, all.b);
    if (N > 2) store_all(FLOAT32, to + 2 * LANES, all.c), store_all(FLOAT32, to + 3 * LANES, all.d);
}

// mixed[i] += weights[i] . values for R queries, 1 or 4, and N vectors of 16 dimensions, 2 or 4, from `at` on, over one block.
INLINE void mix(int kind, int R, int N, const float *weights, int64_t row, const char *values, int stride, int at, float *mixed) {
    float *to = mixed + at;
    Vectors r0 = load_vectors(FLOAT32, N, to), r1 = r0, r2 = r0, r3 = r0;
    if (R > 1) {
        r1 = load_vectors(FLOAT32, N, to + stride), r2 = load_vectors(FLOAT32, N, to + 2 * stride);
        r3 = load_vectors(FLOAT32, N, to + 3 * stride);
    }
    for (int p = 0; p < KV_BLOCK; p++) {
        Vectors v = load_vectors(kind, N, values + ((int64_t)p * stride + at) * itemsize(kind));
        r0 = add_weighted(r0, v, weights[p]);
        if (R == 1) continue;
        r1 = add_weighted(r1, v, weights[row + p]);
        r2 = add_weighted(r2, v, weights[2 * row + p]);
        r3 = add_weighted(r3, v, weights[3 * row + p]);
    }
    store_vectors(N, to, r0);
    if (R == 1) return;
    store_vectors(N, to + stride, r1), store_vectors(N, to + 2 * stride, r2), store_vectors(N, to + 3 * stride, r3);
}

INLINE void mix_block(int kind, int count, const float *weights, int64_t row, const char *values, int stride, float *mixed) {
    for (int at = 0; at < stride;) {
        int vectors = stride - at >= 4 * LANES ? 4 : 2;
        for (int i = 0, taken; i < count; i += taken) {
            taken = count - i >= 4 ? 4 : 1;
            const float *w = weights + i * row;
            float *to = mixed + i * stride;
            if (taken == 4 && vectors == 4) mix(kind, 4, 4, w, row, values, stride, at, to);
            else if (taken == 4) mix(kind, 4, 2, w, row, values, stride, at, to);
            else if (vectors == 4) mix(kind, 1, 4, w, row, values, stride, at, to);
            else mix(kind, 1, 2, w, row, values, stride, at, to);
        }
        at += vectors * LANES;
    }
}

// softmax(q k^T / sqrt(dim)) v of `count` queries, each over positions begins[i]..ends[i]-1.
// q: [count, stride] of `kind`; scores: [count, row]; mixed: [count, stride].
INLINE void attend_kind(int kind, int count, int dim, const char *q, const Past *keys, const Past *values, const int *begins,
                        const int *ends, float *scores, int64_t row, char *scratch, float *mixed) {
    int stride = keys->stride, first = begins[0], last = ends[0];
    for (int i = 1; i < count; i++) {
        first = begins[i] < first ? begins[i] : first;
        last = ends[i] > last ? ends[i] : last;
    }
    int from = first / KV_BLOCK, to = (last + KV_BLOCK - 1) / KV_BLOCK, base = from * KV_BLOCK;
    int64_t bytes = (int64_t)stride * itemsize(kind);
    float sums[QUERIES];
    for (int block = from; block < to; block++)
        score_block(kind, count, q, block_of(keys, block, scratch), bytes, scores + block * KV_BLOCK - base, row);
    for (int i = 0; i < count; i++)
        sums[i] = softmax(scores + i * row, begins[i] - base, ends[i] - base, to * KV_BLOCK - base, 1.0f / sqrtf(dim));
    memset(mixed, 0, 4 * (int64_t)count * stride);
    for (int block = from; block < to; block++)
        mix_block(kind, count, scores + block * KV_BLOCK - base, row, block_of(values, block, scratch), stride, mixed);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < dim; d++) mixed[i * stride + d] /= sums[i];
}

static void attend_together(int count, int dim, const char *q, const Past *keys, const Past *values, const int *begins,
                            const int *ends, float *scores, int64_t row, char *scratch, float *mixed) {
    if (keys->kind == FLOAT32) attend_kind(FLOAT32, count, dim, q, keys, values, begins, ends, scores, row, scratch, mixed);
    else attend_kind(BFLOAT16, count, dim, q, keys, values, begins, ends, scores, row, scratch, mixed);
}
