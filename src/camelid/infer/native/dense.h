// Products with weights in float32 or bfloat16, [outer, inner], as they lie in the model.
//
// A sum over inputs is the same sequence of operations however many rows and outputs are computed at once: a row's result
// does not depend on what else is in the batch, bit for bit.

#include "vectors.h"

enum { AHEAD = 4096 };

typedef struct {
    const void *weight;    // [outer, inner]; of packed ones the lines (see packed.h)
    const float *bias;     // [outer], or NULL
    const void *scales;    // packed: [tiles, groups, 16]
    const uint8_t *zeros;  // packed: [tiles, groups, 16]
    int32_t kind, scale_kind, outer, inner, group;
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
    return fused(load(kind, w), load(kind, x), sum);
}

// The weights that come next in memory, which are fetched while these are multiplied: memory is fastest as one
// sequential stream. `ahead` lines for every line multiplied, over the 2^shift lines that a stored one turns into.
typedef struct {
    const char *from;
    int ahead, shift;
} Next;

INLINE int64_t fetched(Next next, int64_t multiplied) { return multiplied * next.ahead >> next.shift; }

// y[r][o] = w[o] . x[r] for O outputs and R rows of `stride` bytes; O * R <= 16 sums stay in registers.
INLINE void tile(int kind, int O, int R, const char *w, const char *x, int64_t stride, float *y, int64_t step, Next next) {
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
        for (int o = 0; o < O; o++) y[r * step + o] = all[r * O + o];
}

// One row of activations: the weights pass by once, straight through.
INLINE void product_one(int kind, const char *w, int outputs, const char *x, int64_t stride, float *y) {
    int64_t whole = stride / CHUNK_BYTES * CHUNK_BYTES;
    for (int o = 0; o < outputs; o++, w += stride) {
        floats sum = splat(0);
#pragma GCC unroll 4
        for (int64_t at = 0; at < whole; at += CHUNK_BYTES) {
            __builtin_prefetch(w + at + AHEAD);
            sum = multiply_add(kind, sum, w + at, x + at);
        }
        if (whole < stride) {
            char last_w[64] = {0}, last_x[64] = {0};
            memcpy(last_w, w + whole, stride - whole);
            memcpy(last_x, x + whole, stride - whole);
            sum = multiply_add(kind, sum, last_w, last_x);
        }
        y[o] = total(sum);
    }
}

// 16 rows of activations stay in the cache while a block's weights pass by, four outputs at a time.
INLINE void product_many(int kind, const char *weight, int outputs, const char *x, int rows, int64_t stride, float *y,
                         int64_t step, Next next) {
    for (int top = 0; top < rows; top += 16) {
        int bottom = top + 16 < rows ? top + 16 : rows, groups = (bottom - top + 3) / 4;
        next.ahead = groups == 1 ? 4 : groups == 2 ? 2 : 1;
        for (int o = 0; o < outputs; o += 4) {
            const char *w = weight + o * stride;
            Next then = next;
            then.from += 4 * stride * (o / 4) >> next.shift;
            for (int r = top; r < bottom; then.from += fetched(then, stride)) {
                const char *from = x + r * stride;
                float *to = y + r * step + o;
                int taken = bottom - r >= 4 ? 4 : bottom - r >= 2 ? 2 : 1;
                if (o + 4 > outputs)
                    for (int i = 0; i < taken * (outputs - o); i++) {
                        int row = i / (outputs - o), output = i % (outputs - o);
                        tile(kind, 1, 1, w + output * stride, from + row * stride, stride, to + row * step + output,
                             step, (Next){0});
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
                         int64_t step, Next next) {
    if (rows == 1) product_one(kind, weight, outputs, x, stride, y);
    else product_many(kind, weight, outputs, x, rows, stride, y, step, next);
}

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

// y[r][o - begin] = w[o] . x[r] for outputs begin..end-1 and rows of `kind`, the weights' own or float32, to which weights are
// widened a few rows at a time that stay in the cache; scratch: [end - begin, inner] floats.
static void product_dense(int kind, const Linear *l, int begin, int end, const char *x, int rows, float *y, int64_t step,
                          char *scratch) {
    int64_t stride = (int64_t)l->inner * itemsize(kind), stored = (int64_t)l->inner * itemsize(l->kind);
    int widened = l->kind != kind, most = widened && rows <= 64 ? 4 : end - begin;
    for (int o = begin; o < end; o += most) {
        int outputs = end - o < most ? end - o : most;
        const char *lies = (const char *)l->weight + o * stored, *weight = widened ? scratch : lies;
        Next next = {.from = lies + (widened ? most : 4) * stored, .shift = widened};
        for (int i = 0; widened && i < outputs; i++) widen_row(l, o + i, (float *)(scratch + i * stride));
        if (kind == FLOAT32) product_kind(FLOAT32, weight, outputs, x, rows, stride, y + o - begin, step, next);
        else product_kind(BFLOAT16, weight, outputs, x, rows, stride, y + o - begin, step, next);
    }
}
