#pragma once
// A model, a batch of rows, and what a step over them needs: where its numbers lie, and which rows attend
// together.

#include <stdlib.h>

#include "attention.h"
#include "packed.h"

typedef struct {
    const float *attention_norm, *mlp_norm;  // [width]
    const float *query_norm, *key_norm;  // [head_dim], or NULL
    int32_t window;  // positions that a query sees, itself among them; 0: all
    Linear query, key, value, output, gate, up, down;
} Layer;

typedef struct {
    int32_t kind, arithmetic;  // of dense weights; of dense products: `kind`, or FLOAT32 where that is faster
    int32_t layers, width, heads, kv_heads, head_dim, hidden, vocab;
    int32_t blocks, kv_packed;  // of the cache; whether it has 8 bits
    int32_t segment;  // inputs of packed products that share a scale; 0: they are done in float32
    float eps;
    const Layer *layer;
    const void *embedding;  // [vocab, width]
    const float *norm;  // [width]
    Linear unembedding;  // vocab x width
    const float *cosine, *sine;  // [context, head_dim / 2]
    char *cache;  // [blocks, layers, keys and values, kv_heads, block]
    char *workspace;  // of the steps; grows with them
    int64_t workspace_bytes;
} Model;

typedef struct {
    int32_t rows, wanted;
    const int32_t *tokens, *positions;  // [rows]
    const int32_t *tables;  // [rows]: where in `blocks` the table of the row's sequence begins
    const int32_t *blocks;
    const int32_t *wanted_rows;  // [wanted]: rows whose logits are asked for, ascending
    float *logits;  // [wanted, vocab]
    int32_t *greedy;  // [wanted]: index of the largest logit, the first of equals
    float *highest, *log_total;  // [wanted]: that logit; the logarithm of the sum of exponentials
} Batch;

// The input of linears: for dense ones in their arithmetic, for packed ones as codes; forms that no linear
// reads are NULL.
typedef struct {
    char *dense;  // [rows, inner], or as AMX takes them
    Activations packed;
    int32_t inner, columns;  // columns: of AMX (see dense_amx.h), or 0
} Input;

typedef struct {
    int32_t row, count, kv_head;  // rows of one sequence
} Stretch;

typedef struct {
    float highest, sum;  // of some logits of a row
} Run;

typedef struct {
    const Model *model;
    const Batch *batch;
    float *residual, *query, *key, *value;  // [rows, ...]
    Input narrow, mixed, wide;
    float *low;  // [SLOTS, rows, most_rank]: A x of updates, whose rows are `rank` apart
    int32_t most_rank;
    Stretch *stretches;  // what attends together, in the order in which it does
    int32_t stretch_count, past;  // past: positions of the longest row, in whole blocks
    int32_t alone;  // whether every row is of another sequence, so that no row waits for another's keys
    char *scratch;  // [threads, scratch_bytes]
    int64_t scratch_bytes;
    Run *runs;  // [wanted, runs of a row], see summary.h
} Step;

enum {
    RUN = 4096
};  // logits that are summed at once: they stay in the first cache between two looks at them
INLINE int64_t runs_of(const Model *m) { return (m->vocab + RUN - 1) / RUN; }

enum { BLOCK = 32, WIDE_BLOCK = 64, ROWS = 64 };  // outputs and rows of one task

enum { DENSE = 1, PACKED = 2 };  // forms of inputs
enum { SLOTS = 3, LINEARS = 7 };  // updates computed in one phase at most; linears of a layer

INLINE int is_packed(const Linear *l) { return l->kind >= INT8; }
INLINE int form(const Linear *l) { return (is_packed(l) ? PACKED : DENSE) | (l->rank ? DENSE : 0); }
INLINE float *low_of(const Step *s, const Linear *l) {
    return s->low + (int64_t)l->slot * s->batch->rows * s->most_rank;
}
INLINE char *scratch_of(const Step *s, int thread) { return s->scratch + thread * s->scratch_bytes; }

// Takes `bytes` from the memory at *free, up to the next cache line: products load whole lines.
static void *take(char **free, int64_t bytes) {
    char *taken = *free;
    *free += (bytes + 63) / 64 * 64;
    return taken;
}

// Rows of activations are an odd number of cache lines apart: at powers of two, the first cache keeps only a
// few of them.
static Input take_input(const Model *m, char **free, int64_t rows, int inner, int forms) {
    Input input = {.inner = inner, .packed = {.stride = round_up(inner, 64) | 64, .segment = m->segment}};
    Activations *packed = &input.packed;
    if (m->arithmetic == BFLOAT16 && may_use_amx()) input.columns = rows < 16 ? rows : 16;
    int64_t in_columns = input.columns ? (rows + 15) / 16 * sixteen_bytes(inner, input.columns) : 0;
    if (forms & DENSE)
        input.dense = take(free, in_columns ? in_columns : rows * inner * itemsize(m->arithmetic) + 64);
    if (!(forms & PACKED)) return input;
    if (m->segment == 0) {
        packed->whole = take(free, rows * packed->stride * 4);
        return input;
    }
    packed->segments = (inner + m->segment - 1) / m->segment;
    packed->codes = take(free, (int64_t)round_up(rows, 16) * packed->stride + 64);
    packed->scales = take(free, rows * packed->segments * 4);
    packed->owing = take(free, rows * packed->segments * 4);
    return input;
}

// The inputs of linears, in the forms in which those of some layer read them.
static void take_inputs(Step *s, char **free, int64_t rows) {
    const Model *m = s->model;
    int narrow = form(&m->unembedding), mixed = 0, wide = 0;
    for (const Layer *l = m->layer; l < m->layer + m->layers; l++) {
        narrow |= form(&l->query) | form(&l->key) | form(&l->value) | form(&l->gate) | form(&l->up);
        mixed |= form(&l->output), wide |= form(&l->down);
    }
    s->narrow = take_input(m, free, rows, m->width, narrow);
    s->mixed = take_input(m, free, rows, m->heads * m->head_dim, mixed);
    s->wide = take_input(m, free, rows, m->hidden, wide);
}

// Lays a step out from `memory` on and returns its bytes; with NULL it only counts them.
static int64_t lay_out(Step *s, char *memory, int threads) {
    const Model *m = s->model;
    int64_t rows = s->batch->rows, stride = padded(m->head_dim),
            widest = m->width > m->hidden ? m->width : m->hidden;
    int64_t attention = 4 * (2 * KV_BLOCK * stride + 2 * QUERIES * stride + (int64_t)QUERIES * s->past);
    int64_t queries = m->heads * m->head_dim, dense = WIDE_BLOCK * 4 * (widest > queries ? widest : queries);
    char *free = memory;
    s->stretches = take(&free, rows * m->kv_heads * sizeof(Stretch));
    s->residual = take(&free, 4 * rows * m->width);
    s->query = take(&free, 4 * rows * queries);
    s->key = take(&free, 4 * rows * m->kv_heads * m->head_dim);
    s->value = take(&free, 4 * rows * m->kv_heads * m->head_dim);
    take_inputs(s, &free, rows);
    for (const Layer *l = m->layer; l < m->layer + m->layers; l++) {
        int ranks[LINEARS] = {l->query.rank, l->key.rank, l->value.rank, l->output.rank,
                              l->gate.rank,  l->up.rank,  l->down.rank};
        for (int i = 0; i < LINEARS; i++)
            if (ranks[i] > s->most_rank) s->most_rank = ranks[i];
    }
    s->low = take(&free, 4 * SLOTS * rows * s->most_rank);
    s->scratch_bytes = (64 + (attention > dense ? attention : dense)) / 64 * 64;
    s->scratch = take(&free, threads * s->scratch_bytes);
    s->runs = take(&free, s->batch->wanted * runs_of(m) * sizeof(Run));
    return free - memory;
}

// Rows of one sequence that follow each other attend together, as many as fill the queries of a task. Those
// that share keys follow each other, sequence by sequence, since the keys of its heads are neighbours.
static void find_stretches(Step *s) {
    const Batch *b = s->batch;
    s->alone = 1;
    for (int row = 1; row < b->rows; row++) s->alone &= b->tables[row] != b->tables[row - 1];
    int kv_heads = s->model->kv_heads, group = s->model->heads / kv_heads,
        most = group < QUERIES ? QUERIES / group : 1;
    for (int begin = 0, end; begin < b->rows; begin = end) {
        for (end = begin + 1; end < b->rows && b->tables[end] == b->tables[begin]; end++)
            if (b->positions[end] != b->positions[end - 1] + 1) break;
        for (int head = 0; head < kv_heads; head++)
            for (int row = begin; row < end; row += most)
                s->stretches[s->stretch_count++] = (Stretch){row, end - row < most ? end - row : most, head};
    }
}
