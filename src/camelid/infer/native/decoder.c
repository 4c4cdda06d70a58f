// A LLaMA decoder step over a batch of rows, in one call.
//
// A row is one token of one sequence. Rows of a sequence stand in order, so prefill, decode and any mixture of both are
// the same step. All threads run it together; a barrier ends every phase, and inside a phase they take numbered
// tasks (see threads.h).
//
// Dense weights are used as they lie in the model: [outer, inner], row by row, in float32 or bfloat16, the model's kind.
// Packed ones lie in lines (see packed.h). Keys and values have the model's kind or 8 bits; all else is float32.

#include <stdlib.h>
#include <time.h>

#include "threads.h"
#include "attention.h"

typedef struct {
    const float *attention_norm, *mlp_norm;  // [width]
    const float *query_norm, *key_norm;      // [head_dim], or NULL
    int32_t window;                          // positions that a query sees, itself among them; 0: all
    Linear query, key, value, output, gate, up, down;
} Layer;

typedef struct {
    int32_t kind, arithmetic;  // of dense weights; of dense products: `kind`, or FLOAT32 where that is faster
    int32_t layers, width, heads, kv_heads, head_dim, hidden, vocab;
    int32_t blocks, kv_packed;  // of the cache; whether it has 8 bits
    int32_t segment;           // inputs of packed products that share a scale; 0: they are done in float32
    float eps;
    const Layer *layer;
    const void *embedding;       // [vocab, width]
    const float *norm;           // [width]
    Linear unembedding;          // vocab x width
    const float *cosine, *sine;  // [context, head_dim / 2]
    char *cache;                 // [blocks, layers, keys and values, kv_heads, block]
    char *workspace;             // of the steps; grows with them
    int64_t workspace_bytes;
} Model;

typedef struct {
    int32_t rows, wanted;
    const int32_t *tokens, *positions;  // [rows]
    const int32_t *tables;              // [rows]: where in `blocks` the table of the row's sequence begins
    const int32_t *blocks;
    const int32_t *wanted_rows;  // [wanted]: rows whose logits are asked for, ascending
    float *logits;               // [wanted, vocab]
} Batch;

// What enters products: for dense ones in their arithmetic, for packed ones as they read it; NULL in the form that none reads.
typedef struct {
    char *dense;  // [rows, inner]
    Activations packed;
    int32_t inner;
} Input;

typedef struct {
    int32_t row, count, kv_head;  // rows of one sequence
} Stretch;

typedef struct {
    const Model *model;
    const Batch *batch;
    float *residual, *query, *key, *value;  // [rows, ...]
    Input narrow, mixed, wide;
    Stretch *stretches;  // what attends together, in the order in which it does
    int32_t stretch_count, past;  // past: positions of the longest row, in whole blocks
    char *scratch;                // [threads, scratch_bytes]
    int64_t scratch_bytes;
} Step;

enum { BLOCK = 32, WIDE_BLOCK = 64, ROWS = 64 };  // outputs and rows of one task

enum { DENSE = 1, PACKED = 2 };  // forms of inputs

INLINE int is_packed(const Linear *l) { return l->kind >= INT8; }
INLINE int form(const Linear *l) { return is_packed(l) ? PACKED : DENSE; }
INLINE char *scratch_of(const Step *s, int thread) { return s->scratch + thread * s->scratch_bytes; }

// Row `row` of an input, `count` values from `from` on.
static void enter(const Step *s, const Input *to, int row, int from, const float *values, int count) {
    int kind = s->model->kind, arithmetic = s->model->arithmetic;
    if (to->dense) {
        char *dense = to->dense + ((int64_t)row * to->inner + from) * itemsize(arithmetic);
        store(kind, dense, values, count);  // rounded to the model's kind, whatever the products are done in
        for (int i = count - 1; arithmetic != kind && i >= 0; i--) ((float *)dense)[i] = load_one(BFLOAT16, dense, i);
    }
    if (to->packed.codes || to->packed.whole) pack_activations(&to->packed, row, from, values, count, to->inner);
}

// Outputs begin..end-1 for rows top..bottom-1: y[row - top][output - begin].
static void product(const Step *s, const Linear *l, const Input *x, int begin, int end, int top, int bottom, float *y,
                    int64_t step, int thread) {
    const char *dense = x->dense + (int64_t)top * x->inner * itemsize(s->model->arithmetic);
    if (is_packed(l)) product_packed(l, begin, end, &x->packed, top, bottom - top, y, step);
    else product_dense(s->model->arithmetic, l, begin, end, dense, bottom - top, y, step, scratch_of(s, thread));
    if (l->bias)
        for (int r = 0; r < bottom - top; r++)
            for (int o = begin; o < end; o++) y[r * step + o - begin] += l->bias[o];
}

// A task's share of a linear: outputs begin..end-1 and rows top..bottom-1. The outputs of the same rows follow each other: what
// a thread reads of many rows is then mostly what it has written itself.
typedef struct {
    int begin, end, top, bottom;
} Share;

INLINE int widths(const Linear *l, int block) { return (l->outer + block - 1) / block; }
INLINE int shares(const Linear *l, int block, int rows) { return widths(l, block) * ((rows + ROWS - 1) / ROWS); }
INLINE Share share(const Linear *l, int block, int rows, int task) {
    int begin = task % widths(l, block) * block, top = task / widths(l, block) * ROWS;
    return (Share){begin, begin + block < l->outer ? begin + block : l->outer, top, top + ROWS < rows ? top + ROWS : rows};
}

// One row needs small tasks, which share out evenly; many rows large ones, which load less.
INLINE int block_for(int rows) { return rows == 1 ? BLOCK : WIDE_BLOCK; }

// to[row][output] = linear(x), or += it.
static void write_product(const Step *s, const Linear *l, const Input *x, Share part, float *to, int add, int thread) {
    _Alignas(64) float sums[ROWS][WIDE_BLOCK];
    product(s, l, x, part.begin, part.end, part.top, part.bottom, &sums[0][0], WIDE_BLOCK, thread);
    for (int r = part.top; r < part.bottom; r++) {
        float *row = to + (int64_t)r * l->outer;
        const float *from = sums[r - part.top];
        if (add)
            for (int o = part.begin; o < part.end; o++) row[o] += from[o - part.begin];
        else copy(row + part.begin, from, part.end - part.begin);
    }
}

// Queries, keys and values: one phase, so that no thread waits between them.
static void project(const Step *s, const Layer *layer, int thread) {
    const Linear *linears[] = {&layer->query, &layer->key, &layer->value};
    float *outputs[] = {s->query, s->key, s->value};
    int rows = s->batch->rows, block = block_for(rows), counts[3];
    for (int i = 0; i < 3; i++) counts[i] = shares(linears[i], block, rows);
    EACH_TASK(task, counts[0] + counts[1] + counts[2]) {
        int which = 0, part = task;
        while (part >= counts[which]) part -= counts[which++];
        write_product(s, linears[which], &s->narrow, share(linears[which], block, rows, part), outputs[which], 0, thread);
    }
}

// residual += linear(x)
static void add_product(const Step *s, const Linear *l, const Input *x, int thread) {
    int rows = s->batch->rows, block = block_for(rows);
    EACH_TASK(task, shares(l, block, rows)) write_product(s, l, x, share(l, block, rows, task), s->residual, 1, thread);
}

// wide = silu(gate(x)) * up(x); blocks are whole segments of it.
static void gated(const Step *s, const Layer *layer, int thread) {
    int rows = s->batch->rows;
    EACH_TASK(task, shares(&layer->gate, WIDE_BLOCK, rows)) {
        Share part = share(&layer->gate, WIDE_BLOCK, rows, task);
        _Alignas(64) float gate[ROWS][WIDE_BLOCK], up[ROWS][WIDE_BLOCK];
        product(s, &layer->gate, &s->narrow, part.begin, part.end, part.top, part.bottom, &gate[0][0], WIDE_BLOCK, thread);
        product(s, &layer->up, &s->narrow, part.begin, part.end, part.top, part.bottom, &up[0][0], WIDE_BLOCK, thread);
        for (int r = 0; r < part.bottom - part.top; r++) {
            for (int i = 0; i < WIDE_BLOCK; i += LANES) {
                floats g = load(FLOAT32, &gate[r][i]), u = load(FLOAT32, &up[r][i]);
                store_all(FLOAT32, &gate[r][i], g / (1.0f + exponential(-g)) * u);
            }
            enter(s, &s->wide, part.top + r, part.begin, gate[r], part.end - part.begin);
        }
    }
}

static void rotate(float *restrict head, const float *restrict cosine, const float *restrict sine, int half) {
    for (int i = 0; i < half; i++) {
        float a = head[i], b = head[i + half];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + half] = b * cosine[i] + a * sine[i];
    }
}

// to = x * gain / root mean square
static void normalise(const Model *m, const float *x, const float *gain, int width, float *to) {
    floats sums = splat(0);
    float squares = 0;
    for (int i = 0; i + LANES <= width; i += LANES) sums = fused(load(FLOAT32, x + i), load(FLOAT32, x + i), sums);
    for (int i = width / LANES * LANES; i < width; i++) squares += x[i] * x[i];
    float scale = 1.0f / sqrtf((total(sums) + squares) / width + m->eps);
    for (int i = 0; i < width; i++) to[i] = x[i] * scale * gain[i];
}

INLINE int64_t kv_bytes(const Model *m) {  // of one block of one head
    int stride = padded(m->head_dim);
    return m->kv_packed ? KV_BLOCK * (stride + 4) : (int64_t)KV_BLOCK * stride * itemsize(m->kind);
}

enum { VALUES, KEYS };

static Past past_of(const Model *m, int side, int layer, int kv_head, const int32_t *table) {
    int64_t bytes = kv_bytes(m), row = layer * 2 + (side == VALUES);
    return (Past){m->cache + (row * m->kv_heads + kv_head) * bytes, m->layers * 2 * m->kv_heads * bytes, table, m->kind,
                  m->kv_packed, padded(m->head_dim), 0, 0};
}

// Turns queries and keys to their positions; keys and values go into the cache.
static void remember(const Step *s, int index) {
    const Model *m = s->model;
    const Layer *layer = &m->layer[index];
    int dim = m->head_dim, half = dim / 2;
    EACH_TASK(row, s->batch->rows) {
        int position = s->batch->positions[row];
        const int32_t *table = s->batch->blocks + s->batch->tables[row];
        const float *cosine = m->cosine + (int64_t)position * half, *sine = m->sine + (int64_t)position * half;
        for (int h = 0; h < 2 * m->kv_heads; h++) {
            Past past = past_of(m, h % 2, index, h / 2, table);
            fetch_places(&past, h % 2 == KEYS, position);
        }
        for (int h = 0; h < m->heads; h++) {
            float *query = s->query + ((int64_t)row * m->heads + h) * dim;
            if (layer->query_norm) normalise(m, query, layer->query_norm, dim, query);
            rotate(query, cosine, sine, half);
        }
        for (int h = 0; h < m->kv_heads; h++) {
            float *key = s->key + ((int64_t)row * m->kv_heads + h) * dim;
            Past keys = past_of(m, KEYS, index, h, table), values = past_of(m, VALUES, index, h, table);
            if (layer->key_norm) normalise(m, key, layer->key_norm, dim, key);
            rotate(key, cosine, sine, half);
            keep(&keys, KEYS, position, key, dim);
            keep(&values, VALUES, position, s->value + ((int64_t)row * m->kv_heads + h) * dim, dim);
        }
    }
}

INLINE int seen_from(const Step *s, int layer, int row) {
    int window = s->model->layer[layer].window, end = s->batch->positions[row] + 1;
    return window && end > window ? end - window : 0;
}

// Keys or values that a stretch sees.
static Past seen(const Step *s, int side, int layer, Stretch stretch) {
    Past past = past_of(s->model, side, layer, stretch.kv_head, s->batch->blocks + s->batch->tables[stretch.row]);
    past.begin = seen_from(s, layer, stretch.row) / KV_BLOCK;
    past.end = s->batch->positions[stretch.row + stretch.count - 1] / KV_BLOCK + 1;
    return past;
}

static void attend(const Step *s, int index, int thread) {
    const Model *m = s->model;
    int dim = m->head_dim, stride = padded(dim), group = m->heads / m->kv_heads, size = itemsize(m->kind);
    char *scratch = scratch_of(s, thread), *q = scratch + 2 * KV_BLOCK * stride * 4;
    float *mixed = (float *)(q + QUERIES * stride * 4), *scores = mixed + QUERIES * stride;
    memset(q, 0, (size_t)QUERIES * stride * size);
    EACH_TASK(task, s->stretch_count) {
        Stretch stretch = s->stretches[task], after = s->stretches[task + 1 < all ? task + 1 : task];
        Past keys = seen(s, KEYS, index, stretch), values = seen(s, VALUES, index, stretch), then = seen(s, KEYS, index, after);
        int total = stretch.count * group;
        for (int done = 0; done < total; done += QUERIES) {
            int count = total - done < QUERIES ? total - done : QUERIES, begins[QUERIES], ends[QUERIES];
            for (int i = 0; i < count; i++) {
                int row = stretch.row + (done + i) / group, head = stretch.kv_head * group + (done + i) % group;
                store(m->kind, q + i * stride * size, s->query + ((int64_t)row * m->heads + head) * dim, dim);
                ends[i] = s->batch->positions[row] + 1;
                begins[i] = seen_from(s, index, row);
            }
            attend_together(count, dim, q, &keys, &values, &then, begins, ends, scores, s->past, scratch, mixed);
            for (int i = 0; i < count; i++) {
                int row = stretch.row + (done + i) / group, head = stretch.kv_head * group + (done + i) % group;
                copy(s->query + ((int64_t)row * m->heads + head) * dim, mixed + i * stride, dim);
            }
        }
    }
}

// What was attended to, which has taken the queries' place, enters the output projection.
static void enter_mixed(const Step *s) {
    int size = s->model->heads * s->model->head_dim;
    EACH_TASK(row, s->batch->rows) enter(s, &s->mixed, row, 0, s->query + (int64_t)row * size, size);
}

static void enter_normalised(const Step *s, int to, int from, const float *gain, int thread) {
    int width = s->model->width;
    float *scaled = (float *)scratch_of(s, thread);
    normalise(s->model, s->residual + (int64_t)from * width, gain, width, scaled);
    enter(s, &s->narrow, to, 0, scaled, width);
}

static void normalise_all(const Step *s, const float *gain, int thread) {
    EACH_TASK(row, s->batch->rows) enter_normalised(s, row, row, gain, thread);
}

// The embedding's rows of the tokens.
static void embed(const Step *s) {
    const Model *m = s->model;
    EACH_TASK(row, s->batch->rows) {
        int64_t to = (int64_t)row * m->width, from = (int64_t)s->batch->tokens[row] * m->width;
        for (int i = 0; i < m->width; i++) s->residual[to + i] = load_one(m->kind, m->embedding, from + i);
    }
}

static void unembed(const Step *s, int thread) {
    const Linear *l = &s->model->unembedding;
    int rows = s->batch->wanted;
    EACH_TASK(task, shares(l, WIDE_BLOCK, rows))
        write_product(s, l, &s->narrow, share(l, WIDE_BLOCK, rows, task), s->batch->logits, 0, thread);
}

static void step_together(const void *job, int thread) {
    const Step *s = job;
    embed(s), barrier();
    for (int i = 0; i < s->model->layers; i++) {
        const Layer *layer = &s->model->layer[i];
        normalise_all(s, layer->attention_norm, thread), barrier();
        project(s, layer, thread), barrier();
        remember(s, i), barrier();
        attend(s, i, thread), barrier();
        enter_mixed(s), barrier();
        add_product(s, &layer->output, &s->mixed, thread), barrier();
        normalise_all(s, layer->mlp_norm, thread), barrier();
        gated(s, layer, thread), barrier();
        add_product(s, &layer->down, &s->wide, thread), barrier();
    }
    EACH_TASK(task, s->batch->wanted)
        enter_normalised(s, task, s->batch->wanted_rows[task], s->model->norm, thread);
    barrier();
    unembed(s, thread), barrier();
}

// Takes `bytes` from the memory at *free, up to the next cache line: products load whole lines.
static void *take(char **free, int64_t bytes) {
    char *taken = *free;
    *free += (bytes + 63) / 64 * 64;
    return taken;
}

static Input take_input(const Model *m, char **free, int64_t rows, int inner, int forms) {
    Input input = {.inner = inner, .packed = {.stride = round_up(inner, 8), .segment = m->segment}};
    Activations *packed = &input.packed;
    if (forms & DENSE) input.dense = take(free, rows * inner * itemsize(m->arithmetic) + 64);
    if (!(forms & PACKED)) return input;
    if (m->segment == 0) {
        packed->whole = take(free, rows * packed->stride * 4);
        return input;
    }
    packed->segments = (inner + m->segment - 1) / m->segment;
    packed->codes = take(free, rows * packed->stride + 64);
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
    int64_t rows = s->batch->rows, stride = padded(m->head_dim), widest = m->width > m->hidden ? m->width : m->hidden;
    int64_t attention = 4 * (2 * KV_BLOCK * stride + 2 * QUERIES * stride + (int64_t)QUERIES * s->past);
    int64_t queries = m->heads * m->head_dim, dense = WIDE_BLOCK * 4 * (widest > queries ? widest : queries);
    char *free = memory;
    s->stretches = take(&free, rows * m->kv_heads * sizeof(Stretch));
    s->residual = take(&free, 4 * rows * m->width);
    s->query = take(&free, 4 * rows * queries);
    s->key = take(&free, 4 * rows * m->kv_heads * m->head_dim);
    s->value = take(&free, 4 * rows * m->kv_heads * m->head_dim);
    take_inputs(s, &free, rows);
    s->scratch_bytes = (64 + (attention > dense ? attention : dense)) / 64 * 64;
    s->scratch = take(&free, threads * s->scratch_bytes);
    return free - memory;
}

// Rows of one sequence that follow each other attend together, as many as fill the queries of a task. Those that share keys
// follow each other, sequence by sequence, since the keys of its heads are neighbours.
static void find_stretches(Step *s) {
    const Batch *b = s->batch;
    int kv_heads = s->model->kv_heads, group = s->model->heads / kv_heads, most = group < QUERIES ? QUERIES / group : 1;
    for (int begin = 0, end; begin < b->rows; begin = end) {
        for (end = begin + 1; end < b->rows && b->tables[end] == b->tables[begin]; end++)
            if (b->positions[end] != b->positions[end - 1] + 1) break;
        for (int head = 0; head < kv_heads; head++)
            for (int row = begin; row < end; row += most)
                s->stretches[s->stretch_count++] = (Stretch){row, end - row < most ? end - row : most, head};
    }
}

// One step on `threads` threads; returns 0, or -1 where memory ran out.
int camelid_step(Model *m, const Batch *b, int threads) {
    Step step = {.model = m, .batch = b};
    for (int row = 0; row < b->rows; row++)
        if (b->positions[row] >= step.past) step.past = round_up(b->positions[row] + 1, KV_BLOCK);
    int64_t bytes = lay_out(&step, NULL, threads);
    if (bytes > m->workspace_bytes) {
        free(m->workspace);
        m->workspace = aligned_alloc(64, bytes);
        m->workspace_bytes = m->workspace ? bytes : 0;
        if (!m->workspace) return -1;
    }
    lay_out(&step, m->workspace, threads);
    find_stretches(&step);
    run_together(step_together, &step, threads);
    return 0;
}

// Gives back what the steps have used.
void camelid_free(Model *m) {
    free(m->workspace);
    m->workspace = NULL;
    m->workspace_bytes = 0;
}

// Copies one block of the cache onto another, in every layer.
void camelid_copy_block(const Model *m, int from, int to) {
    int64_t bytes = kv_bytes(m) * m->layers * 2 * m->kv_heads;
    memcpy(m->cache + to * bytes, m->cache + from * bytes, bytes);
}

// What products with bfloat16 weights are best done in: float32 where that takes 0.8 of the time or less.
int camelid_arithmetic(void) {
    enum { ROWS_TIMED = 16, INNER = 512, TRIALS = 20 };
    static char weights[BLOCK * INNER * 4], inputs[ROWS_TIMED * INNER * 4];
    static float sums[ROWS_TIMED * BLOCK];
    double best[2] = {INFINITY, INFINITY};
    for (int i = 0; i < 2 * TRIALS; i++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        Linear linear = {.weight = weights, .kind = i % 2, .outer = BLOCK, .inner = INNER};
        product_dense(linear.kind, &linear, 0, BLOCK, inputs, ROWS_TIMED, sums, BLOCK, NULL);
        clock_gettime(CLOCK_MONOTONIC, &end);
        best[i % 2] = fmin(best[i % 2], end.tv_sec - begin.tv_sec + 1e-9 * (end.tv_nsec - begin.tv_nsec));
    }
    return best[FLOAT32] < 0.8 * best[BFLOAT16] ? FLOAT32 : BFLOAT16;
}

// Whether packed products are done in integers on this processor.
int camelid_integers(void) {
#ifdef __AVX512VNNI__
    return 1;
#else
    return 0;
#endif
}

typedef struct {
    const float *logits;  // [rows, vocab]
    int32_t rows, vocab;
    int32_t *greedy;      // [rows]: index of the largest, the first of equals
    float *log_total;     // [rows]: log of the sum of exponentials
} Summary;

static void summarise_together(const void *job, int thread) {
    (void)thread;
    const Summary *s = job;
    EACH_TASK(row, s->rows) {
        const float *logits = s->logits + (int64_t)row * s->vocab;
        floats highest = splat(-INFINITY), sums = splat(0);
        int whole = s->vocab / LANES * LANES, best = 0;
        for (int i = 0; i < whole; i += LANES) {
            floats x = load(FLOAT32, logits + i);
            highest = choose(x > highest, x, highest);
        }
        float most = largest(highest), rest = 0;
        for (int i = whole; i < s->vocab; i++) most = fmaxf(most, logits[i]);
        while (best < s->vocab - 1 && logits[best] != most) best++;
        for (int i = 0; i < whole; i += LANES) sums += exponential(load(FLOAT32, logits + i) - most);
        for (int i = whole; i < s->vocab; i++) rest += expf(logits[i] - most);
        s->greedy[row] = best;
        s->log_total[row] = most + logf(total(sums) + rest);
    }
    barrier();
}

// The largest logit of every row, and what turns logits into log-probabilities.
void camelid_summarise(const Summary *summary, int threads) { run_together(summarise_together, summary, threads); }
