#pragma once
// Products with bfloat16 weights in AMX, any number of rows: 16 outputs by 16 rows by 32 inputs in one
// instruction. Weights are read where they lie, sixteen outputs side by side, which is also how memory is
// read fastest.

#include "amx.h"
#include "dense.h"

enum { STEP_BYTES = 64, STEP_INPUTS = 32 };  // of weights that one instruction takes

// Activations as AMX takes them: [sixteens of rows, pairs of inputs, columns, 2], where columns are rows, at
// most 16, and pairs are filled up with zeros to whole steps.
INLINE int64_t sixteen_bytes(int inner, int columns) {
    return (int64_t)round_up(inner, STEP_INPUTS) * 2 * columns;
}

// Values from..from+count-1 of a row; `from` is even.
static void enter_columns(char *to, int columns, int row, int from, const float *values, int count,
                          int inner) {
    char *column = to + row / 16 * sixteen_bytes(inner, columns) + row % 16 * 4;
    int end = from + count == inner ? round_up(inner, STEP_INPUTS) : from + count;
    for (int begin = from; begin < end; begin += STEP_INPUTS) {
        char few[STEP_BYTES] = {0};
        int left = from + count - begin, pairs = (end - begin < STEP_INPUTS ? end - begin : STEP_INPUTS) / 2;
        store(BFLOAT16, few, values + begin - from, left < 0 ? 0 : left < STEP_INPUTS ? left : STEP_INPUTS);
        for (int i = 0; i < pairs; i++)
            memcpy(column + (int64_t)(begin / 2 + i) * columns * 4, few + 4 * i, 4);
    }
}

#ifdef AMX
// Registers: 0 to 3 are sums, 4 and 5 activations, 6 weights.
static void shape_for_dense(int columns) {
    Shapes shapes = {0};
    for (int i = 0; i < 7; i++)
        shapes.row_bytes[i] = i < 6 ? 4 * columns : STEP_BYTES, shapes.rows[i] = AMX_ROWS;
    load_shapes(&shapes);
}

// Sums of 16 outputs and up to 64 rows in registers 0 to 3, one for each sixteen of them; of `outputs`
// weights, `stride` bytes apart.
INLINE void multiply_dense(const char *w, int outputs, int64_t stride, const char *x, int64_t sixteen,
                           int columns, int rows) {
    char filled[AMX_ROWS][STEP_BYTES];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t at = 0; at < stride; at += STEP_BYTES, x += STEP_BYTES * columns) {
        int left = stride - at < STEP_BYTES ? stride - at : STEP_BYTES;
        if (outputs == AMX_ROWS && left == STEP_BYTES) _tile_loadd(6, w + at, stride);
        else {
            memset(filled, 0, sizeof filled);
            for (int i = 0; i < outputs; i++) memcpy(filled[i], w + i * stride + at, left);
            WRITTEN();
            _tile_loadd(6, filled, STEP_BYTES);
        }
        _tile_loadd(4, x, 4 * columns);
        _tile_dpbf16ps(0, 6, 4);
        if (rows <= AMX_ROWS) continue;
        _tile_loadd(5, x + sixteen, 4 * columns);
        _tile_dpbf16ps(1, 6, 5);
        if (rows <= 2 * AMX_ROWS) continue;
        _tile_loadd(4, x + 2 * sixteen, 4 * columns);
        _tile_dpbf16ps(2, 6, 4);
        if (rows <= 3 * AMX_ROWS) continue;
        _tile_loadd(5, x + 3 * sixteen, 4 * columns);
        _tile_dpbf16ps(3, 6, 5);
    }
}

// y[r][o - begin] for outputs begin..end-1, at most 64, and up to 64 rows, the first of which begins a
// sixteen at x.
static void product_dense_amx(const Linear *l, int begin, int end, const char *x, int columns, int rows,
                              float *y, int64_t step) {
    int64_t stride = (int64_t)l->inner * itemsize(BFLOAT16), sixteen = sixteen_bytes(l->inner, columns);
    floats sums[4][AMX_ROWS];
    WRITTEN();
    shape_for_dense(columns);
    for (int o = begin; o < end; o += AMX_ROWS) {
        int outputs = end - o < AMX_ROWS ? end - o : AMX_ROWS;
        multiply_dense((const char *)l->weight + o * stride, outputs, stride, x, sixteen, columns, rows);
        _tile_stored(0, sums[0], sizeof(floats));
        if (rows > AMX_ROWS) _tile_stored(1, sums[1], sizeof(floats));
        if (rows > 2 * AMX_ROWS) _tile_stored(2, sums[2], sizeof(floats));
        if (rows > 3 * AMX_ROWS) _tile_stored(3, sums[3], sizeof(floats));
        for (int top = 0; top < rows; top += AMX_ROWS) {
            floats *own = sums[top / AMX_ROWS];
            transpose(own);
            for (int r = top; r < rows && r < top + AMX_ROWS; r++)
                store_all(FLOAT32, y + r * step + o - begin, own[r - top]);
        }
    }
    _tile_release();
}
#else
static void product_dense_amx(const Linear *l, int begin, int end, const char *x, int columns, int rows,
                              float *y, int64_t step) {
    // without AMX there are no columns
    (void)l, (void)begin, (void)end, (void)x, (void)columns, (void)rows, (void)y, (void)step;
}
#endif
