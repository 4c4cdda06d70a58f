#pragma once
// Dense products in registers of sixteen floats, or of 32 bfloat16 where the processor multiplies those.

#include "linear.h"

#ifdef __AVX512BF16__
#define CHUNK_BYTES 64
#else
#define CHUNK_BYTES (kind == FLOAT32 ? 64 : 32)
#endif

// One chunk of inputs as `add_chunk` takes it, and sum + w * x over it.
INLINE floats chunk_at(int kind, const char *from) {
#ifdef __AVX512BF16__
    if (kind == BFLOAT16) return load(FLOAT32, from);  // the pairs as they lie
#endif
    return load(kind, from);
}

INLINE floats add_chunk(int kind, floats sum, floats w, floats x) {
#ifdef __AVX512BF16__
    if (kind == BFLOAT16) return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
#endif
    (void)kind;
    return fused(w, x, sum);
}

INLINE Vectors add_chunks(int kind, Vectors sums, Vectors w, floats x) {
    return (Vectors){add_chunk(kind, sums.a, w.a, x), add_chunk(kind, sums.b, w.b, x),
                     add_chunk(kind, sums.c, w.c, x), add_chunk(kind, sums.d, w.d, x)};
}

// y[r][o] = w[o] . x[r] for 4 outputs and R rows of `stride` bytes, at most 4.
INLINE void tile(int kind, int R, const char *w, const char *x, int64_t stride, float *y, int64_t step,
                 Next next) {
    int64_t whole = stride / CHUNK_BYTES * CHUNK_BYTES, left = stride - whole;
    Vectors r0 = {0}, r1 = {0}, r2 = {0}, r3 = {0};
    char last[8][64];
    for (int64_t at = 0; at < whole + (left > 0) * CHUNK_BYTES; at += CHUNK_BYTES) {
        if (at == whole) {  // what is left, filled up with zeros
            memset(last, 0, sizeof last);
            for (int i = 0; i < 4; i++) memcpy(last[i], w + i * stride + whole, left);
            for (int i = 0; i < R; i++) memcpy(last[4 + i], x + i * stride + whole, left);
            w = last[0] - at, x = last[4] - at, stride = sizeof last[0];
        }
        // One row is done before the first cache would have them.
        for (int i = 0; i < next.ahead; i++) {
            const char *line = next.from + fetched(next, at) + 64 * i;
            if (R == 1) __builtin_prefetch(line, 0, 2);
            else __builtin_prefetch(line, 0, 3);
        }
        Vectors weights = {chunk_at(kind, w + at), chunk_at(kind, w + stride + at),
                           chunk_at(kind, w + 2 * stride + at), chunk_at(kind, w + 3 * stride + at)};
        r0 = add_chunks(kind, r0, weights, chunk_at(kind, x + at));
        if (R > 1) r1 = add_chunks(kind, r1, weights, chunk_at(kind, x + stride + at));
        if (R > 2) r2 = add_chunks(kind, r2, weights, chunk_at(kind, x + 2 * stride + at));
        if (R > 3) r3 = add_chunks(kind, r3, weights, chunk_at(kind, x + 3 * stride + at));
    }
    floats sums[16] = {r0.a, r0.b, r0.c, r0.d, r1.a, r1.b, r1.c, r1.d,
                       r2.a, r2.b, r2.c, r2.d, r3.a, r3.b, r3.c, r3.d};
    floats all = totals(sums, 4 * R);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int o = 0; o < 4; o++) y[r * step + o] = all[r * 4 + o];
}

// w . x over `stride` bytes, in the order of a tile's sums.
INLINE float dot(int kind, const char *w, const char *x, int64_t stride) {
    int64_t whole = stride / CHUNK_BYTES * CHUNK_BYTES;
    floats sum = splat(0);
#pragma GCC unroll 4
    for (int64_t at = 0; at < whole; at += CHUNK_BYTES)
        sum = add_chunk(kind, sum, chunk_at(kind, w + at), chunk_at(kind, x + at));
    if (whole < stride) {
        char last_w[64] = {0}, last_x[64] = {0};
        memcpy(last_w, w + whole, stride - whole);
        memcpy(last_x, x + whole, stride - whole);
        sum = add_chunk(kind, sum, chunk_at(kind, last_w), chunk_at(kind, last_x));
    }
    return total(sum);
}

// 16 rows of activations stay in the cache while a block's weights pass by, four outputs at a time.
INLINE void product_many(int kind, const char *weight, int outputs, const char *x, int rows, int64_t stride,
                         float *y, int64_t step, Next next) {
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
                        to[row * step + output] = dot(kind, w + output * stride, from + row * stride, stride);
                    }
                else if (taken == 4) tile(kind, 4, w, from, stride, to, step, then);
                else if (taken == 2) tile(kind, 2, w, from, stride, to, step, then);
                else tile(kind, 1, w, from, stride, to, step, then);
                r += taken;
            }
        }
    }
}

INLINE void product_kind(int kind, const char *weight, int outputs, const char *x, int rows, int64_t stride,
                         float *y, int64_t step, Next next) {
    int one = rows == 1 && ONE_STREAM;
    for (int o = 0; one && o < outputs; o++) y[o] = dot(kind, weight + o * stride, x, stride);
    if (!one) product_many(kind, weight, outputs, x, rows, stride, y, step, next);
}

// y[r][o - begin] = w[o] . x[r] for outputs begin..end-1 and rows of `kind`, the weights' own or float32, to
// which weights are widened a few rows at a time that stay in the cache; scratch: [end - begin, inner]
// floats.
static void product_dense(int kind, const Linear *l, int begin, int end, const char *x, int rows, float *y,
                          int64_t step, char *scratch) {
    int64_t stride = (int64_t)l->inner * itemsize(kind), stored = (int64_t)l->inner * itemsize(l->kind);
    int widened = l->kind != kind, most = widened && rows <= 64 ? 4 : end - begin;
    for (int o = begin; o < end; o += most) {
        int outputs = end - o < most ? end - o : most;
        const char *lies = (const char *)l->weight + o * stored, *weight = widened ? scratch : lies;
        Next next = {.from = lies + (widened ? most : 4) * stored, .shift = widened};
        for (int i = 0; widened && i < outputs; i++) widen_row(l, o + i, (float *)(scratch + i * stride));
        if (kind == FLOAT32)
            product_kind(FLOAT32, weight, outputs, x, rows, stride, y + o - begin, step, next);
        else product_kind(BFLOAT16, weight, outputs, x, rows, stride, y + o - begin, step, next);
    }
}
