#pragma once
// Linears of a step: their inputs, the tasks that their outputs are split into, and the phases made of them.

#include "step.h"

// Row `row` of an input, `count` values from `from` on.
static void enter(const Step *s, const Input *to, int row, int from, const float *values, int count) {
    int kind = s->model->kind, arithmetic = s->model->arithmetic;
    if (to->dense && to->columns) enter_columns(to->dense, to->columns, row, from, values, count, to->inner);
    else if (to->dense) {
        char *dense = to->dense + ((int64_t)row * to->inner + from) * itemsize(arithmetic);
        if (arithmetic == kind) store(kind, dense, values, count);
        else store_rounded(kind, (float *)dense, values, count);
    }
    if (to->packed.codes || to->packed.whole)
        pack_activations(&to->packed, row, from, values, count, to->inner);
}

// y += U (A x), where `lower` has computed A x.
static void add_update(const Step *s, const Linear *l, int begin, int end, int top, int bottom, float *y,
                       int64_t step) {
    for (int r = top; r < bottom; r++) {
        const float *low = low_of(s, l) + (int64_t)r * l->rank;
        float *to = y + (r - top) * step;
        for (int k = 0; k < l->rank; k++) {
            const float *raise = l->raise + (int64_t)k * l->outer + begin;
            for (int o = 0; o < end - begin; o++) to[o] += low[k] * raise[o];
        }
    }
}

// Outputs begin..end-1 for rows top..bottom-1: y[row - top][output - begin].
static void product(const Step *s, const Linear *l, const Input *x, int begin, int end, int top, int bottom,
                    float *y, int64_t step, int thread) {
    int rows = bottom - top;
    if (is_packed(l)) product_packed(l, begin, end, &x->packed, top, rows, y, step);
    else if (x->columns)
        product_dense_amx(l, begin, end, x->dense + top / 16 * sixteen_bytes(x->inner, x->columns),
                          x->columns, rows, y, step);
    else {
        const char *dense = x->dense + (int64_t)top * x->inner * itemsize(s->model->arithmetic);
        product_dense(s->model->arithmetic, l, begin, end, dense, rows, y, step, scratch_of(s, thread));
    }
    if (l->bias)
        for (int r = 0; r < bottom - top; r++)
            for (int o = begin; o < end; o++) y[r * step + o - begin] += l->bias[o];
    if (l->rank) add_update(s, l, begin, end, top, bottom, y, step);
}

// A task's share of a linear: outputs begin..end-1 and rows top..bottom-1. The outputs of the same rows
// follow each other: what a thread reads of many rows is then mostly what it has written itself.
typedef struct {
    int begin, end, top, bottom;
} Share;

INLINE int widths(const Linear *l, int block) { return (l->outer + block - 1) / block; }
INLINE int shares(const Linear *l, int block, int rows) {
    return widths(l, block) * ((rows + ROWS - 1) / ROWS);
}
INLINE Share share(const Linear *l, int block, int rows, int task) {
    int begin = task % widths(l, block) * block, top = task / widths(l, block) * ROWS;
    return (Share){begin, begin + block < l->outer ? begin + block : l->outer, top,
                   top + ROWS < rows ? top + ROWS : rows};
}

// One row needs small tasks, which share out evenly; many rows large ones, which load less.
INLINE int block_for(int rows) { return rows == 1 ? BLOCK : WIDE_BLOCK; }

// to[row][output] = linear(x), or += it.
static void write_product(const Step *s, const Linear *l, const Input *x, Share part, float *to, int add,
                          int thread) {
    _Alignas(64) float sums[ROWS][WIDE_BLOCK];
    product(s, l, x, part.begin, part.end, part.top, part.bottom, &sums[0][0], WIDE_BLOCK, thread);
    for (int r = part.top; r < part.bottom; r++) {
        float *row = to + (int64_t)r * l->outer;
        const float *from = sums[r - part.top];
        if (add)
            for (int o = part.begin; o < part.end; o++) row[o] += from[o - part.begin];
        else memcpy(row + part.begin, from, 4 * (part.end - part.begin));
    }
}

// Products of several linears with one input: one phase, so that no thread waits between them.
static void products(const Step *s, const Linear *const *linears, float *const *outputs, int count,
                     const Input *x, int thread) {
    int rows = s->batch->rows, block = block_for(rows), counts[SLOTS], all_shares = 0;
    for (int i = 0; i < count; i++) all_shares += counts[i] = shares(linears[i], block, rows);
    EACH_TASK(task, all_shares) {
        int which = 0, part = task;
        while (part >= counts[which]) part -= counts[which++];
        write_product(s, linears[which], x, share(linears[which], block, rows, part), outputs[which], 0,
                      thread);
    }
}

// A x of the linears that have an update; all threads leave together.
static void lower(const Step *s, const Linear *const *linears, int count, const Input *x, int thread) {
    Linear lows[SLOTS];
    const Linear *each[SLOTS];
    float *outputs[SLOTS];
    int ranks = 0;
    for (int i = 0; i < count; i++) {
        const Linear *l = linears[i];
        lows[i] = (Linear){.weight = l->low, .kind = s->model->kind, .outer = l->rank, .inner = l->inner};
        each[i] = &lows[i], outputs[i] = low_of(s, l), ranks += l->rank;
    }
    if (ranks == 0) return;
    products(s, each, outputs, count, x, thread);
    barrier();
}

static void project(const Step *s, const Layer *layer, int thread) {
    const Linear *linears[] = {&layer->query, &layer->key, &layer->value};
    float *outputs[] = {s->query, s->key, s->value};
    lower(s, linears, 3, &s->narrow, thread);
    products(s, linears, outputs, 3, &s->narrow, thread);
}

// residual += linear(x)
static void add_product(const Step *s, const Linear *l, const Input *x, int thread) {
    int rows = s->batch->rows, block = block_for(rows);
    lower(s, &l, 1, x, thread);
    EACH_TASK(task, shares(l, block, rows))
    write_product(s, l, x, share(l, block, rows, task), s->residual, 1, thread);
}

// wide = silu(gate(x)) * up(x); blocks are whole segments of it.
static void gated(const Step *s, const Layer *layer, int thread) {
    int rows = s->batch->rows;
    const Linear *linears[] = {&layer->gate, &layer->up};
    lower(s, linears, 2, &s->narrow, thread);
    EACH_TASK(task, shares(&layer->gate, WIDE_BLOCK, rows)) {
        Share part = share(&layer->gate, WIDE_BLOCK, rows, task);
        _Alignas(64) float gate[ROWS][WIDE_BLOCK], up[ROWS][WIDE_BLOCK];
        product(s, &layer->gate, &s->narrow, part.begin, part.end, part.top, part.bottom, &gate[0][0],
                WIDE_BLOCK, thread);
        product(s, &layer->up, &s->narrow, part.begin, part.end, part.top, part.bottom, &up[0][0], WIDE_BLOCK,
                thread);
        for (int r = 0; r < part.bottom - part.top; r++) {
            for (int i = 0; i < WIDE_BLOCK; i += LANES) {
                floats g = load(FLOAT32, &gate[r][i]), u = load(FLOAT32, &up[r][i]);
                floats swish = divide(g, add(splat(1), exponential(negative(g))));
                store_all(FLOAT32, &gate[r][i], multiply(swish, u));
            }
            enter(s, &s->wide, part.top + r, part.begin, gate[r], part.end - part.begin);
        }
    }
}
