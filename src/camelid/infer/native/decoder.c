// A LLaMA decoder step over a batch of rows, in one call.
//
// A row is one token of one sequence: (token, slot, position). Rows of a sequence stand in order, so prefill,
// decode and any mixture of both are the same step. All threads run it together; a barrier ends every phase,
// and inside a phase they take numbered tasks from one counter.
//
// Weights are used as they lie in the model: [outer, inner], row by row, in float32 or bfloat16, the model's kind, or
// packed. What enters a product, keys and values have the model's kind; all else is float32.

#include <stdlib.h>
#include <time.h>

#include "attention.h"
#include "threads.h"

typedef struct {
    const float *attention_norm, *mlp_norm;  // [width]
    Linear query, key, value, output, gate, up, down;
} Layer;

typedef struct {
    int32_t kind, layers, width, heads, kv_heads, head_dim, hidden, vocab;
    int32_t slots, capacity, widen;  // widen: rows from which products are done in float32
    float eps;
    const Layer *layer;
    const void *embedding;       // [vocab, width]
    const float *norm;           // [width]
    Linear unembedding;          // vocab x width
    const float *cosine, *sine;  // [capacity, head_dim / 2]
    void *keys, *values;         // [layers, slots, kv_heads, capacity, padded head_dim], zero behind it
} Model;

typedef struct {
    int32_t rows, wanted;
    const int32_t *tokens, *slots, *positions;  // [rows]
    const int32_t *wanted_rows;                 // [wanted]: rows whose logits are asked for, ascending
    float *logits;                              // [wanted, vocab]
} Batch;

typedef struct {
    const Model *model;
    const Batch *batch;
    int32_t kind;  // of what enters a product
    float *residual, *query, *key, *value, *scores;  // [rows, ...]; scores: [threads, G_MOST, capacity]
    char *narrow, *mixed, *wide;                     // inputs of products, of `kind`
    char *scratch;                                   // [threads, BLOCK, widest input], for weights of another kind
    int64_t scratch_bytes;                           // of one thread
} Step;

// Writes what enters a product: rounded to the model's type, whichever type the product is done in.
static void enter(const Step *s, char *to, const float *from, int count) {
    store(s->model->kind, to, from, count);
    if (s->kind == s->model->kind) return;
    for (int i = count - 1; i >= 0; i--) ((float *)to)[i] = load_one(BFLOAT16, to, i);
}

INLINE char *scratch_of(const Step *s, int thread) { return s->scratch + thread * s->scratch_bytes; }

// Queries, keys and values: one phase, so that no thread waits between them.
static void project(const Step *s, const Layer *layer, int thread) {
    const Linear *linears[] = {&layer->query, &layer->key, &layer->value};
    float *outputs[] = {s->query, s->key, s->value};
    int counts[] = {blocks(linears[0]), blocks(linears[1]), blocks(linears[2])};
    EACH_TASK(task, counts[0] + counts[1] + counts[2]) {
        int which = 0, block = task;
        while (block >= counts[which]) block -= counts[which++];
        const Linear *l = linears[which];
        int begin = block * BLOCK;
        product(s->kind, l, begin, end_of(l, begin), s->narrow, s->batch->rows, outputs[which] + begin, l->outer,
                scratch_of(s, thread));
    }
}

// residual += linear(x)
static void add_product(const Step *s, const Linear *l, const char *x, int thread) {
    int rows = s->batch->rows, width = s->model->width;
    EACH_TASK(task, blocks(l)) {
        int begin = task * BLOCK, end = end_of(l, begin);
        float sums[rows][BLOCK];
        product(s->kind, l, begin, end, x, rows, &sums[0][0], BLOCK, scratch_of(s, thread));
        for (int r = 0; r < rows; r++)
            for (int o = begin; o < end; o++) s->residual[(int64_t)r * width + o] += sums[r][o - begin];
    }
}

// wide = silu(gate(x)) * up(x)
static void gated(const Step *s, const Layer *layer, int thread) {
    const Model *m = s->model;
    int rows = s->batch->rows, size = itemsize(s->kind);
    EACH_TASK(task, blocks(&layer->gate)) {
        int begin = task * BLOCK, end = end_of(&layer->gate, begin);
        float gate[rows][BLOCK], up[rows][BLOCK];
        product(s->kind, &layer->gate, begin, end, s->narrow, rows, &gate[0][0], BLOCK, scratch_of(s, thread));
        product(s->kind, &layer->up, begin, end, s->narrow, rows, &up[0][0], BLOCK, scratch_of(s, thread));
        for (int r = 0; r < rows; r++) {
            for (int i = 0; i < BLOCK; i += LANES) {
                floats g = load(FLOAT32, &gate[r][i]), u = load(FLOAT32, &up[r][i]);
                floats result = g / (1.0f + exponential(-g)) * u;
                memcpy(&gate[r][i], &result, sizeof result);
            }
            enter(s, s->wide + ((int64_t)r * m->hidden + begin) * size, gate[r], end - begin);
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

INLINE int64_t cached(const Model *m, int layer, int slot, int kv_head) {
    return (((int64_t)layer * m->slots + slot) * m->kv_heads + kv_head) * m->capacity * padded(m->head_dim);
}

// Turns queries and keys to their positions; keys and values go into the cache.
static void remember(const Step *s, int layer) {
    const Model *m = s->model;
    int dim = m->head_dim, half = dim / 2, size = itemsize(m->kind);
    EACH_TASK(row, s->batch->rows) {
        int position = s->batch->positions[row];
        const float *cosine = m->cosine + (int64_t)position * half, *sine = m->sine + (int64_t)position * half;
        for (int h = 0; h < m->heads; h++) rotate(s->query + ((int64_t)row * m->heads + h) * dim, cosine, sine, half);
        for (int h = 0; h < m->kv_heads; h++) {
            float *key = s->key + ((int64_t)row * m->kv_heads + h) * dim;
            float *value = s->value + ((int64_t)row * m->kv_heads + h) * dim;
            int64_t at = (cached(m, layer, s->batch->slots[row], h) + (int64_t)position * padded(dim)) * size;
            rotate(key, cosine, sine, half);
            store(m->kind, (char *)m->keys + at, key, dim);
            store(m->kind, (char *)m->values + at, value, dim);
        }
    }
}

static void attend(const Step *s, int layer, int thread) {
    const Model *m = s->model;
    int dim = m->head_dim, stride = padded(dim), group = m->heads / m->kv_heads, size = itemsize(m->kind);
    char q[G_MOST * stride * size];
    float mixed[G_MOST * stride], *scores = s->scores + (int64_t)thread * G_MOST * padded(m->capacity);
    memset(q, 0, sizeof q);
    EACH_TASK(task, s->batch->rows * m->kv_heads) {
        int row = task / m->kv_heads, kv_head = task % m->kv_heads, past = s->batch->positions[row] + 1;
        int64_t at = cached(m, layer, s->batch->slots[row], kv_head) * size;
        for (int done = 0; done < group; done += G_MOST) {
            int heads = group - done < G_MOST ? group - done : G_MOST;
            int64_t from = ((int64_t)row * m->heads + kv_head * group + done) * dim;
            for (int g = 0; g < heads; g++) store(m->kind, q + g * stride * size, s->query + from + g * dim, dim);
            attend_heads(m->kind, heads, dim, m->capacity, q, (char *)m->keys + at, (char *)m->values + at, past,
                         scores, mixed);
            for (int g = 0; g < heads; g++)
                enter(s, s->mixed + (from + g * dim) * itemsize(s->kind), mixed + g * stride, dim);
        }
    }
}

// Row `to` of the products' input from row `from` of the residual stream.
static void normalise(const Step *s, int to, int from, const float *gain) {
    int width = s->model->width;
    const float *x = s->residual + (int64_t)from * width;
    floats sums = splat(0);
    float squares = 0, scaled[width];
    for (int i = 0; i + LANES <= width; i += LANES) sums += load(FLOAT32, x + i) * load(FLOAT32, x + i);
    for (int i = width / LANES * LANES; i < width; i++) squares += x[i] * x[i];
    float scale = 1.0f / sqrtf((total(sums) + squares) / width + s->model->eps);
    for (int i = 0; i < width; i++) scaled[i] = x[i] * scale * gain[i];
    enter(s, s->narrow + (int64_t)to * width * itemsize(s->kind), scaled, width);
}

static void normalise_all(const Step *s, const float *gain) {
    EACH_TASK(row, s->batch->rows) normalise(s, row, row, gain);
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
    EACH_TASK(task, blocks(l)) {
        int begin = task * BLOCK;
        product(s->kind, l, begin, end_of(l, begin), s->narrow, s->batch->wanted, s->batch->logits + begin,
                l->outer, scratch_of(s, thread));
    }
}

static void step_together(const void *job, int thread) {
    const Step *s = job;
    embed(s), barrier();
    for (int i = 0; i < s->model->layers; i++) {
        const Layer *layer = &s->model->layer[i];
        normalise_all(s, layer->attention_norm), barrier();
        project(s, layer, thread), barrier();
        remember(s, i), barrier();
        attend(s, i, thread), barrier();
        add_product(s, &layer->output, s->mixed, thread), barrier();
        normalise_all(s, layer->mlp_norm), barrier();
        gated(s, layer, thread), barrier();
        add_product(s, &layer->down, s->wide, thread), barrier();
    }
    EACH_TASK(task, s->batch->wanted) normalise(s, task, s->batch->wanted_rows[task], s->model->norm);
    barrier();
    unembed(s, thread), barrier();
}

// Takes `bytes` from the memory at *free, up to the next cache line: products load whole lines.
static void *take(char **free, int64_t bytes) {
    char *taken = *free;
    *free += (bytes + 63) / 64 * 64;
    return taken;
}

// One step on `threads` threads; returns 0, or -1 where memory ran out.
int camelid_step(const Model *m, const Batch *b, int threads) {
    int kind = b->rows >= m->widen ? FLOAT32 : m->kind;
    int64_t rows = b->rows, size = itemsize(kind), scores = (int64_t)threads * G_MOST * padded(m->capacity);
    int64_t query = rows * m->heads * m->head_dim, key = rows * m->kv_heads * m->head_dim;
    int64_t width = rows * m->width, hidden = rows * m->hidden;
    int64_t widest = m->width > m->hidden ? m->width : m->hidden, mixed = (int64_t)m->heads * m->head_dim;
    int64_t scratch = (BLOCK * (widest > mixed ? widest : mixed) * size + 63) / 64 * 64;
    int64_t needed = 4 * (width + query + 2 * key + scores) + size * (width + query + hidden) + threads * scratch + 10 * 64;
    char *memory = malloc(needed), *free_from = (char *)(((uintptr_t)memory + 63) / 64 * 64);
    if (!memory) return -1;
    Step step = {.model = m, .batch = b, .kind = kind};
    step.residual = take(&free_from, 4 * width);
    step.query = take(&free_from, 4 * query);
    step.key = take(&free_from, 4 * key);
    step.value = take(&free_from, 4 * key);
    step.scores = take(&free_from, 4 * scores);
    step.narrow = take(&free_from, size * width);
    step.mixed = take(&free_from, size * query);
    step.wide = take(&free_from, size * hidden);
    step.scratch = take(&free_from, threads * scratch);
    step.scratch_bytes = scratch;
    run_together(step_together, &step, threads);
    free(memory);
    return 0;
}

// Rows from which bfloat16 products are better done in float32: 8, where a float32 one takes 0.8 of the time or less.
int camelid_widen_from(void) {
    enum { ROWS = 16, INNER = 512, TRIALS = 20 };
    static char weights[BLOCK * INNER * 4], inputs[ROWS * INNER * 4];
    static float sums[ROWS * BLOCK];
    double best[2] = {INFINITY, INFINITY};
    for (int i = 0; i < 2 * TRIALS; i++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        Linear linear = {.weight = weights, .kind = i % 2, .outer = BLOCK, .inner = INNER};
        product(linear.kind, &linear, 0, BLOCK, inputs, ROWS, sums, BLOCK, NULL);
        clock_gettime(CLOCK_MONOTONIC, &end);
        best[i % 2] = fmin(best[i % 2], end.tv_sec - begin.tv_sec + 1e-9 * (end.tv_nsec - begin.tv_nsec));
    }
    return best[FLOAT32] < 0.8 * best[BFLOAT16] ? 8 : INT32_MAX;
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
        float most = highest[0], rest = 0;
        for (int i = 1; i < LANES; i++) most = fmaxf(most, highest[i]);
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
