// A LLaMA decoder step over a batch of rows, in one call.
//
// A row is one token of one sequence. Rows of a sequence stand in order, so prefill, decode and any mixture
// of both are the same step. All threads run it together; a barrier ends every phase, and inside a phase they
// take numbered tasks (see threads.h).
//
// Dense weights are used as they lie in the model: [outer, inner], row by row, in float32 or bfloat16, the
// model's kind. Packed ones lie in lines (see lines.h). Keys and values have the model's kind or 8 bits; all
// else is float32.

#include <time.h>

#include "projections.h"
#include "summary.h"

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
    for (int i = 0; i + LANES <= width; i += LANES)
        sums = fused(load(FLOAT32, x + i), load(FLOAT32, x + i), sums);
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
    return (Past){m->cache + (row * m->kv_heads + kv_head) * bytes,
                  m->layers * 2 * m->kv_heads * bytes,
                  table,
                  m->kind,
                  m->kv_packed,
                  padded(m->head_dim),
                  0,
                  0};
}

// Applies rotary embeddings to a head's queries and key, and writes key and value into the cache.
static void store_key_and_value(const Step *s, int index, int row, int kv_head) {
    const Model *m = s->model;
    const Layer *layer = &m->layer[index];
    int dim = m->head_dim, half = dim / 2, group = m->heads / m->kv_heads,
        position = s->batch->positions[row];
    const int32_t *table = s->batch->blocks + s->batch->tables[row];
    const float *cosine = m->cosine + (int64_t)position * half, *sine = m->sine + (int64_t)position * half;
    Past keys = past_of(m, KEYS, index, kv_head, table), values = past_of(m, VALUES, index, kv_head, table);
    prefetch_position(&keys, KEYS, position), prefetch_position(&values, VALUES, position);
    for (int h = kv_head * group; h < (kv_head + 1) * group; h++) {
        float *query = s->query + ((int64_t)row * m->heads + h) * dim;
        if (layer->query_norm) normalise(m, query, layer->query_norm, dim, query);
        rotate(query, cosine, sine, half);
    }
    float *key = s->key + ((int64_t)row * m->kv_heads + kv_head) * dim;
    if (layer->key_norm) normalise(m, key, layer->key_norm, dim, key);
    rotate(key, cosine, sine, half);
    write_position(&keys, KEYS, position, key, dim);
    write_position(&values, VALUES, position, s->value + ((int64_t)row * m->kv_heads + kv_head) * dim, dim);
}

static void store_all_keys_and_values(const Step *s, int index) {
    int kv_heads = s->model->kv_heads;
    EACH_TASK(task, s->batch->rows * kv_heads)
    store_key_and_value(s, index, task / kv_heads, task % kv_heads);
}

INLINE int seen_from(const Step *s, int layer, int row) {
    int window = s->model->layer[layer].window, end = s->batch->positions[row] + 1;
    return window && end > window ? end - window : 0;
}

// Keys or values that a stretch sees.
static Past seen(const Step *s, int side, int layer, Stretch stretch) {
    Past past =
        past_of(s->model, side, layer, stretch.kv_head, s->batch->blocks + s->batch->tables[stretch.row]);
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
        if (s->alone) store_key_and_value(s, index, stretch.row, stretch.kv_head);
        Past keys = seen(s, KEYS, index, stretch), values = seen(s, VALUES, index, stretch),
             then = seen(s, KEYS, index, after);
        int total = stretch.count * group;
        for (int done = 0; done < total; done += QUERIES) {
            int count = total - done < QUERIES ? total - done : QUERIES, begins[QUERIES], ends[QUERIES];
            for (int i = 0; i < count; i++) {
                int row = stretch.row + (done + i) / group,
                    head = stretch.kv_head * group + (done + i) % group;
                store(m->kind, q + i * stride * size, s->query + ((int64_t)row * m->heads + head) * dim, dim);
                ends[i] = s->batch->positions[row] + 1;
                begins[i] = seen_from(s, index, row);
            }
            attend_together(count, dim, q, &keys, &values, &then, begins, ends, scores, s->past, scratch,
                            mixed);
            for (int i = 0; i < count; i++) {
                int row = stretch.row + (done + i) / group,
                    head = stretch.kv_head * group + (done + i) % group;
                memcpy(s->query + ((int64_t)row * m->heads + head) * dim, mixed + i * stride, 4 * dim);
            }
        }
    }
}

// Attention's results, which are stored over the queries, become the output projection's input.
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
        if (!s->alone) {
            store_all_keys_and_values(s, i);
            barrier();
        }
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
    EACH_TASK(task, s->batch->wanted * runs_of(s->model)) summarise_run(s, task);
    barrier();
    EACH_TASK(row, s->batch->wanted) summarise_row(s, row);
    barrier();
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

// Frees the workspace of the steps.
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

// Clears a block of the cache: stale NaNs would leak through the attention mask (0 * NaN = NaN).
void camelid_clear_block(const Model *m, int block) {
    int64_t bytes = kv_bytes(m) * m->layers * 2 * m->kv_heads;
    memset(m->cache + block * bytes, 0, bytes);
}

// The fastest arithmetic for bfloat16 weights: float32 if the processor lacks AMX and float32 takes at most
// 0.8 of the time.
int camelid_arithmetic(void) {
    if (may_use_amx()) return BFLOAT16;
#ifndef __AVX512F__
    return FLOAT32;
#else
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
#endif
}

// Whether packed products are computed in integers on this processor.
int camelid_integers(void) {
#if defined(__AVX512VNNI__) || defined(NARROW_INTEGERS)
    return 1;
#else
    return 0;
#endif
}

// Whether this processor has products of its own here; elsewhere torch may be faster.
int camelid_tuned(void) {
#if defined(__AVX512VNNI__) || defined(NARROW_INTEGERS)
    return 1;
#else
    return 0;
#endif
}
