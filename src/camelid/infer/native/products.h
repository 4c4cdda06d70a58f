// Linear layers: weight rows against rows of activations.
//
// Weights of another kind than the activations are turned into theirs a few rows at a time, which stay in the cache, and
// multiplied like any others: packed ones, scale * (code - zero) with a scale and a zero point for each group of
// inputs, and bfloat16 ones where float32 is the faster product (see `widened`).

#include "vectors.h"

enum { INT8 = 2, INT4 = 3 };  // beside FLOAT32 and BFLOAT16; INT4: two codes a byte, the even input in the low half
enum { BLOCK = 32, AHEAD = 4096 };

typedef struct {
    const void *weight;    // [outer, inner]
    const float *bias;     // [outer], or NULL
    const float *scales;   // [outer, inner / group], for packed weights
    const uint8_t *zeros;  // [outer, inner / group]
    int32_t kind, outer, inner, group;
} Linear;

#ifdef __AVX512BF16__
#define CHUNK_BYTES 64
#else
#define CHUNK_BYTES (kind == FLOAT32 ? 64 : 32)
#endif

// sum + w * x over one chunk of inputs.
INLINE floats multiply_add(int kind, floats sum, const char *w, const char *x) {
#ifdef __AVX512BF16__
    if (kind == BFLOAT16)
        return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_loadu_si512(x));
#endif
    return sum + load(kind, w) * load(kind, x);
}

// The weights that come next in memory, which are fetched while these are multiplied: memory is fastest as one
// sequential stream. `ahead` lines for every line multiplied, over the 2^shift lines that a stored one turns into.
typedef struct {
    const char *from;
    int ahead, shift;
} Next;

INLINE int64_t fetched(Next next, int64_t multiplied) { return multiplied * next.ahead >> next.shift; }

// y[r][o] = w[o] . x[r] for O outputs and R rows of `stride` bytes; O * R <= 16 sums stay in registers.
INLINE void tile(int kind, int O, int R, const char *w, const char *x, int64_t stride, float *y, int step, Next next) {
    int64_t whole = stride / CHUNK_BYTES * CHUNK_BYTES, left = stride - whole;
    floats sums[16];
    for (int i = 0; i < O * R; i++) sums[i] = splat(0);
    for (int64_t at = 0; at < whole; at += CHUNK_BYTES) {
        for (int i = 0; i < next.ahead; i++) __builtin_prefetch(next.from + fetched(next, at) + 64 * i);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int o = 0; o < O; o++)
                sums[r * O + o] = multiply_add(kind, sums[r * O + o], w + o * stride + at, x + r * stride + at);
    }
    if (left) {
        char last_w[4][64] = {0}, last_x[4][64] = {0};
        for (int o = 0; o < O; o++) memcpy(last_w[o], w + o * stride + whole, left);
        for (int r = 0; r < R; r++) memcpy(last_x[r], x + r * stride + whole, left);
        for (int i = 0; i < O * R; i++) sums[i] = multiply_add(kind, sums[i], last_w[i % O], last_x[i / O]);
    }
    floats all = totals(sums, O * R);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int o = 0; o < O; o++) y[(int64_t)r * step + o] = all[r * O + o];
}

// One row of activations: the weights pass by once, straight through.
INLINE void product_one(int kind, const char *w, int outputs, const char *x, int64_t stride, float *y) {
    int64_t whole = stride / (2 * CHUNK_BYTES) * (2 * CHUNK_BYTES);
    for (int o = 0; o < outputs; o++, w += stride) {
        floats even = splat(0), odd = splat(0);
        for (int64_t at = 0; at < whole; at += 2 * CHUNK_BYTES) {
            __builtin_prefetch(w + at + AHEAD);
            __builtin_prefetch(w + at + AHEAD + 64);
            even = multiply_add(kind, even, w + at, x + at);
            odd = multiply_add(kind, odd, w + at + CHUNK_BYTES, x + at + CHUNK_BYTES);
        }
        float rest = 0;
        if (whole < stride) tile(kind, 1, 1, w + whole, x + whole, stride - whole, &rest, 0, (Next){0});
        y[o] = total(even + odd) + rest;
    }
}

// 16 rows of activations stay in the cache while a block's weights pass by, four outputs at a time.
INLINE void product_many(int kind, const char *weight, int outputs, const char *x, int rows, int64_t stride, float *y,
                         int step, Next next) {
    for (int top = 0; top < rows; top += 16) {
        int bottom = top + 16 < rows ? top + 16 : rows, groups = (bottom - top + 3) / 4;
        next.ahead = groups == 1 ? 4 : groups == 2 ? 2 : 1;
        for (int o = 0; o < outputs; o += 4) {
            const char *w = weight + o * stride;
            Next then = next;
            then.from += 4 * stride * (o / 4) >> next.shift;
            for (int r = top; r < bottom; then.from += fetched(then, stride)) {
                const char *from = x + r * stride;
                float *to = y + (int64_t)r * step + o;
                int taken = bottom - r >= 4 ? 4 : bottom - r >= 2 ? 2 : 1;
                if (o + 4 > outputs)
                    for (int i = 0; i < taken * (outputs - o); i++) {
                        int row = i / (outputs - o), output = i % (outputs - o);
                        tile(kind, 1, 1, w + output * stride, from + row * stride, stride,
                             to + (int64_t)row * step + output, step, (Next){0});
                    }
                else if (taken == 4) tile(kind, 4, 4, w, from, stride, to, step, then);
                else if (taken == 2) tile(kind, 4, 2, w, from, stride, to, step, then);
                else tile(kind, 4, 1, w, from, stride, to, step, then);
                r += taken;
            }
        }
    }
}

INLINE void product_kind(int kind, const char *weight, int outputs, const char *x, int rows, int64_t stride, float *y,
                         int step, Next next) {
    if (rows == 1) product_one(kind, weight, outputs, x, stride, y);
    else product_many(kind, weight, outputs, x, rows, stride, y, step, next);
}

// One output's weights as `kind`.
INLINE void unpack_row(int kind, const Linear *l, int64_t output, char *to) {
    int bits = l->kind == INT4 ? 4 : 8, groups = l->inner / l->group;
    const uint8_t *codes = (const uint8_t *)l->weight + output * l->inner * bits / 8;
    for (int g = 0; g < groups; g++) {
        float scale = l->scales[output * groups + g], zero = l->zeros[output * groups + g];
        int i = 0, begin = g * l->group;
        for (; i + 2 * LANES <= l->group; i += 2 * LANES, to += 2 * LANES * itemsize(kind)) {
            const uint8_t *from = codes + (begin + i) * bits / 8;
            bytes first, second;
            memcpy(&first, from, sizeof first);
            __builtin_prefetch(from + AHEAD / 2);
            if (bits == 4) interleave(first & 15, first >> 4, &first, &second);
            else memcpy(&second, from + LANES, sizeof second);
            store_all(kind, to, scale * (widen(first) - zero));
            store_all(kind, to + LANES * itemsize(kind), scale * (widen(second) - zero));
        }
        for (; i < l->group; i++, to += itemsize(kind)) {
            int at = begin + i, code = bits == 8 ? codes[at] : at % 2 ? codes[at / 2] >> 4 : codes[at / 2] & 15;
            float weight = scale * (code - zero);
            store(kind, to, &weight, 1);
        }
    }
}

// One output's bfloat16 weights as float32.
INLINE void widen_row(const Linear *l, int64_t output, float *to) {
    const char *from = (const char *)l->weight + output * l->inner * itemsize(BFLOAT16);
    int i = 0;
    for (; i + LANES <= l->inner; i += LANES) store_all(FLOAT32, to + i, load(BFLOAT16, from + i * itemsize(BFLOAT16)));
    for (; i < l->inner; i++) to[i] = load_one(BFLOAT16, from, i);
}

// Bytes of one output's weights as they are stored.
INLINE int64_t stored(const Linear *l) {
    return l->kind == INT4 ? l->inner / 2 : l->kind == INT8 ? l->inner : (int64_t)l->inner * itemsize(l->kind);
}

// Outputs begin..end-1 of a linear for all rows of `kind`; `step` separates the rows of y; scratch: [BLOCK, inner].
static void product(int kind, const Linear *l, int begin, int end, const char *x, int rows, float *y, int step,
                    char *scratch) {
    int64_t stride = (int64_t)l->inner * itemsize(kind);
    int turned = l->kind != kind, most = turned && rows <= 64 ? 4 : BLOCK;
    for (int o = begin; o < end; o += most) {
        int outputs = end - o < most ? end - o : most;
        const char *lies = (const char *)l->weight + o * stored(l), *weight = turned ? scratch : lies;
        Next next = {.from = lies + (turned ? most : 4) * stored(l)};
        while (stored(l) << next.shift < stride) next.shift++;
        for (int i = 0; turned && i < outputs; i++)
            if (l->kind == BFLOAT16) widen_row(l, o + i, (float *)(scratch + i * stride));
            else if (kind == FLOAT32) unpack_row(FLOAT32, l, o + i, scratch + i * stride);
            else unpack_row(BFLOAT16, l, o + i, scratch + i * stride);
        if (kind == FLOAT32) product_kind(FLOAT32, weight, outputs, x, rows, stride, y + o - begin, step, next);
        else product_kind(BFLOAT16, weight, outputs, x, rows, stride, y + o - begin, step, next);
    }
    if (l->bias)
        for (int r = 0; r < rows; r++)
            for (int o = begin; o < end; o++) y[(int64_t)r * step + o - begin] += l->bias[o];
}

INLINE int blocks(const Linear *l) { return (l->outer + BLOCK - 1) / BLOCK; }
INLINE int end_of(const Linear *l, int begin) { return begin + BLOCK < l->outer ? begin + BLOCK : l->outer; }
