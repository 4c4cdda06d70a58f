#pragma once
// What sampling needs of every row of logits first: the largest logit and the sum of exponentials. Runs of a
// row are summed one by one and put together in their order, so that a row's sum is the same bits however
// many threads share it.

#include "step.h"

// The largest logit of a run, and the sum of exponentials beneath it.
static void summarise_run(const Step *s, int task) {
    int runs = runs_of(s->model), begin = task % runs * RUN;
    int count = s->model->vocab - begin < RUN ? s->model->vocab - begin : RUN, whole = count / LANES * LANES;
    const float *logits = s->batch->logits + (int64_t)(task / runs) * s->model->vocab + begin;
    floats highest = splat(-INFINITY), sums = splat(0);  // a NaN is never the highest, and makes the sum one
    for (int i = 0; i < whole; i += LANES) {
        floats x = load(FLOAT32, logits + i);
        highest = choose(above(x, highest), x, highest);
        sums = choose(equal(x, x), sums, x);
    }
    float most = largest(highest), rest = 0;
    for (int i = whole; i < count; i++) {
        most = fmaxf(most, logits[i]);
        if (logits[i] != logits[i]) rest = logits[i];
    }
    if (most > -INFINITY) {
        for (int i = 0; i < whole; i += LANES) {
            floats x = load(FLOAT32, logits + i);
            sums = add(sums, exponential(subtract(x, splat(most))));
        }
        for (int i = whole; i < count; i++) rest += expf(logits[i] - most);
    }
    s->runs[task] = (Run){most, total(sums) + rest};
}

// A row's runs together: its largest logit, the first place of it, and the logarithm of the sum of
// exponentials.
static void summarise_row(const Step *s, int row) {
    int runs = runs_of(s->model), first = 0;
    const Run *own = s->runs + (int64_t)row * runs;
    for (int i = 1; i < runs; i++)
        if (own[i].highest > own[first].highest) first = i;
    float highest = own[first].highest, sum = 0;
    for (int i = 0; i < runs; i++)
        if (own[i].sum) sum += own[i].sum * expf(own[i].highest - highest);
    const float *logits = s->batch->logits + (int64_t)row * s->model->vocab;
    int place = first * RUN;
    while (place < s->model->vocab - 1 && logits[place] != highest) place++;
    s->batch->greedy[row] = place;
    s->batch->highest[row] = highest;
    s->batch->log_total[row] = highest + logf(sum);
}
