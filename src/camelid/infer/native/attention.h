// Attention of a few query heads over the keys and values of one sequence.

#include "products.h"

enum { G_MOST = 4 };  // query heads that attend together

// scores = exp(q k^T / sqrt(dim) - their maximum) over positions 0..past-1; returns their sum.
INLINE float score(int kind, const char *q, const char *keys, int past, int64_t bytes, float scale, float *scores) {
    floats highest = splat(-INFINITY), sum = splat(0);
    for (int p = 0; p < past; p += LANES) {
        floats products[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            // Behind the last position the first key of the block stands in; its score is replaced below.
            const char *key = keys + (p + i < past ? p + i : p) * bytes;
            products[i] = splat(0);
            for (int64_t at = 0; at < bytes; at += CHUNK_BYTES)
                products[i] = multiply_add(kind, products[i], key + at, q + at);
        }
        floats all = choose(COUNT + p < past, totals(products, LANES) * scale, splat(-INFINITY));
        highest = choose(all > highest, all, highest);
        memcpy(scores + p, &all, sizeof all);
    }
    float most = highest[0];
    for (int i = 1; i < LANES; i++) most = fmaxf(most, highest[i]);
    for (int p = 0; p < past; p += LANES) {
        floats weights = exponential(load(FLOAT32, scores + p) - most);
        memcpy(scores + p, &weights, sizeof weights);
        sum += weights;
    }
    return total(sum);
}

// softmax(q k^T / sqrt(dim)) v of G query heads over positions 0..past-1 of the key-value head that they share.
// q: [G, stride] in the model's type; scores: [G, padded capacity]; mixed: [G, stride].
INLINE void attend_kind(int kind, int G, int dim, int capacity, const char *q, const char *keys, const char *values,
                        int past, float *scores, float *mixed) {
    int stride = padded(dim);
    int64_t row = padded(capacity), bytes = (int64_t)stride * itemsize(kind);
    float scale = 1.0f / sqrtf(dim), sums[G_MOST];
    for (int g = 0; g < G; g++) sums[g] = score(kind, q + g * bytes, keys, past, bytes, scale, scores + g * row);
    for (int i = 0; i < stride; i += 2 * LANES) {
        floats first[G_MOST], second[G_MOST];
        for (int g = 0; g < G; g++) first[g] = second[g] = splat(0);
        for (int p = 0; p < past; p++) {
            const char *value = values + p * bytes + i * itemsize(kind);
            floats a = load(kind, value), b = load(kind, value + LANES * itemsize(kind));
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) first[g] += scores[g * row + p] * a, second[g] += scores[g * row + p] * b;
        }
        for (int g = 0; g < G; g++) {
            first[g] /= sums[g], second[g] /= sums[g];
            memcpy(mixed + g * stride + i, &first[g], sizeof first[g]);
            memcpy(mixed + g * stride + i + LANES, &second[g], sizeof second[g]);
        }
    }
}

static void attend_heads(int kind, int G, int dim, int capacity, const char *q, const char *keys, const char *values,
                         int past, float *scores, float *mixed) {
#define ATTEND(KIND, COUNT) attend_kind(KIND, COUNT, dim, capacity, q, keys, values, past, scores, mixed)
#define ATTEND_ANY(KIND) \
    switch (G) { \
        case 1: ATTEND(KIND, 1); break; \
        case 2: ATTEND(KIND, 2); break; \
        case 3: ATTEND(KIND, 3); break; \
        default: ATTEND(KIND, 4); \
    }
    if (kind == FLOAT32) ATTEND_ANY(FLOAT32)
    else ATTEND_ANY(BFLOAT16)
}
