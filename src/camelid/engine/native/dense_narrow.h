#pragma once
// Dense products in float32 where registers are narrow (AVX2, NEON): bfloat16 weights are widened as they are
// loaded, or once where there are many rows. Every sum is one chain over a part's lanes, which are added up
// at the end.

#include "linear.h"

enum {
    OUTPUTS_AHEAD = 8
};  // how far ahead one row's weights are prefetched: rows are too short for hardware
enum {
    WIDENED_ROWS = 8,
    CACHED_ROWS = 8
};  // rows from which on weights are widened once; rows that stay in the first cache

typedef struct {
    float_part a, b, c, d;  // of two, three or four outputs
} Four;

INLINE Four zero_sums_of_four(void) {
    return (Four){splat_part(0), splat_part(0), splat_part(0), splat_part(0)};
}

// sums + w * x for `outputs` outputs, 2 to 4.
INLINE Four add_four(int outputs, Four sums, Four w, float_part x) {
    sums.a = fused_part(w.a, x, sums.a), sums.b = fused_part(w.b, x, sums.b);
    if (outputs > 2) sums.c = fused_part(w.c, x, sums.c);
    if (outputs > 3) sums.d = fused_part(w.d, x, sums.d);
    return sums;
}

INLINE Four weights_at(int kind, int outputs, const char *w, int64_t stride) {
    float_part zero = splat_part(0);
    return (Four){load_part(kind, w), load_part(kind, w + stride),
                  outputs > 2 ? load_part(kind, w + 2 * stride) : zero,
                  outputs > 3 ? load_part(kind, w + 3 * stride) : zero};
}

INLINE void store_totals(int outputs, float *y, Four sums) {
    y[0] = part_total(sums.a), y[1] = part_total(sums.b);
    if (outputs > 2) y[2] = part_total(sums.c);
    if (outputs > 3) y[3] = part_total(sums.d);
}

// y[r][o] = w[o] . x[r] for `outputs` outputs of `kind`, 2 to 4, and R rows, at most 4; both lie `inner`
// numbers apart. 12 sums, 3 weights and an input are as many as the registers of AVX2 hold.
INLINE void narrow_tile(int kind, int outputs, int R, const char *w, const float *x, int inner, float *y,
                        int64_t step) {
    int64_t stride = (int64_t)inner * itemsize(kind), row = inner;
    int whole = inner / PART * PART, left = inner - whole, size = itemsize(kind);
    Four r0 = zero_sums_of_four(), r1 = r0, r2 = r0, r3 = r0;
    char last_w[4][4 * PART];
    float last_x[4][PART];
    for (int at = 0; at < inner; at += PART) {
        if (at == whole) {  // what is left, filled up with zeros
            memset(last_w, 0, sizeof last_w), memset(last_x, 0, sizeof last_x);
            for (int i = 0; i < outputs; i++)
                memcpy(last_w[i], w + i * stride + (int64_t)whole * size, left * size);
            for (int i = 0; i < R; i++) memcpy(last_x[i], x + i * row + whole, 4 * left);
            w = last_w[0] - (int64_t)at * size, x = last_x[0] - at, stride = sizeof last_w[0], row = PART;
        }
        if (R == 1 && outputs == 4 && at < whole)
            __builtin_prefetch(w + OUTPUTS_AHEAD * stride + (int64_t)4 * at * size);
        Four weights = weights_at(kind, outputs, w + (int64_t)at * size, stride);
        r0 = add_four(outputs, r0, weights, load_part(FLOAT32, x + at));
        if (R > 1) r1 = add_four(outputs, r1, weights, load_part(FLOAT32, x + row + at));
        if (R > 2) r2 = add_four(outputs, r2, weights, load_part(FLOAT32, x + 2 * row + at));
        if (R > 3) r3 = add_four(outputs, r3, weights, load_part(FLOAT32, x + 3 * row + at));
    }
    store_totals(outputs, y, r0);
    if (R > 1) store_totals(outputs, y + step, r1);
    if (R > 2) store_totals(outputs, y + 2 * step, r2);
    if (R > 3) store_totals(outputs, y + 3 * step, r3);
}

// One output's product with one row, in the order of a tile's sums.
INLINE float narrow_dot(int kind, const char *w, const float *x, int inner) {
    int whole = inner / PART * PART, size = itemsize(kind);
    float_part sum = splat_part(0);
    for (int at = 0; at < whole; at += PART)
        sum = fused_part(load_part(kind, w + (int64_t)at * size), load_part(FLOAT32, x + at), sum);
    if (whole < inner) {
        char last_w[4 * PART] = {0};
        float last_x[PART] = {0};
        memcpy(last_w, w + (int64_t)whole * size, (inner - whole) * size);
        memcpy(last_x, x + whole, 4 * (inner - whole));
        sum = fused_part(load_part(kind, last_w), load_part(FLOAT32, last_x), sum);
    }
    return part_total(sum);
}

// `outputs` outputs, 2 or 3, by all rows.
INLINE void narrow_rows(int kind, int outputs, const char *w, const float *x, int rows, int inner, float *y,
                        int64_t step) {
    int r = 0;
    for (; r + 4 <= rows; r += 4)
        narrow_tile(kind, outputs, 4, w, x + (int64_t)r * inner, inner, y + r * step, step);
    for (; r + 2 <= rows; r += 2)
        narrow_tile(kind, outputs, 2, w, x + (int64_t)r * inner, inner, y + r * step, step);
    if (r < rows) narrow_tile(kind, outputs, 1, w, x + (int64_t)r * inner, inner, y + r * step, step);
}

// `outputs` outputs by rows that stay in the cache while the weights pass by.
INLINE void product_narrow(int kind, const char *weight, int outputs, const float *x, int rows, int inner,
                           float *y, int64_t step) {
    int64_t stride = (int64_t)inner * itemsize(kind);
    int o = 0;
    for (; rows == 1 && o + 4 <= outputs; o += 4)
        narrow_tile(kind, 4, 1, weight + o * stride, x, inner, y + o, step);
    for (; o + 3 <= outputs && o + 4 != outputs; o += 3)
        narrow_rows(kind, 3, weight + o * stride, x, rows, inner, y + o, step);
    for (; o + 2 <= outputs; o += 2)
        narrow_rows(kind, 2, weight + o * stride, x, rows, inner, y + o, step);
    for (; o < outputs; o++)
        for (int r = 0; r < rows; r++)
            y[r * step + o] = narrow_dot(kind, weight + o * stride, x + (int64_t)r * inner, inner);
}

// y[r][o - begin] = w[o] . x[r] for outputs begin..end-1 and rows of float32, which `kind` always is here;
// scratch: [end - begin, inner] floats.
static void product_dense(int kind, const Linear *l, int begin, int end, const char *x, int rows, float *y,
                          int64_t step, char *scratch) {
    (void)kind;
    const char *weight = (const char *)l->weight + (int64_t)begin * l->inner * itemsize(l->kind);
    int outputs = end - begin, widened = l->kind == BFLOAT16 && rows >= WIDENED_ROWS;
    for (int o = 0; widened && o < outputs; o++)
        widen_row(l, begin + o, (float *)scratch + (int64_t)o * l->inner);
    if (widened) weight = scratch;
    for (int top = 0; top < rows; top += CACHED_ROWS) {
        int here = rows - top < CACHED_ROWS ? rows - top : CACHED_ROWS;
        const float *from = (const float *)x + (int64_t)top * l->inner;
        if (widened || l->kind == FLOAT32)
            product_narrow(FLOAT32, weight, outputs, from, here, l->inner, y + top * step, step);
        else product_narrow(BFLOAT16, weight, outputs, from, here, l->inner, y + top * step, step);
    }
}
