#pragma once
// What sampling asks of every row of logits before anything else.

#include "threads.h"
#include "vectors.h"

typedef struct {
    const float *logits;  // [rows, vocab]
    int32_t rows, vocab;
    int32_t *greedy;      // [rows]: index of the largest, the first of equals
    float *highest;       // [rows]: that logit
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
        s->highest[row] = most;
        s->log_total[row] = most + logf(total(sums) + rest);
    }
    barrier();
}

// The largest logit of every row, and what turns logits into log-probabilities.
void camelid_summarise(const Summary *summary, int threads) { run_together(summarise_together, summary, threads); }
