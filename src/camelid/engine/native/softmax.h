#pragma once
// The softmax of a row of scores.

#include "vectors.h"

// Lanes p..p+15 where they are in begin..end-1, else `other`.
INLINE floats within(int p, int begin, int end, floats all, float other) {
    if (p >= begin && p + LANES <= end) return all;
    return choose((COUNT + p >= begin) & (COUNT + p < end), all, splat(other));
}

// Turns the scores of positions begin..end-1 into exp(scale * (score - maximum)), all others up to `width` into 0, as numbers of
// `kind` from the row's beginning on; returns their sum.
INLINE float softmax(int kind, float *scores, int begin, int end, int width, float scale) {
    floats highest = splat(-INFINITY), sum = splat(0);
    for (int p = 0; p < width; p += LANES) {
        floats all = within(p, begin, end, load(FLOAT32, scores + p), -INFINITY);
        highest = choose(all > highest, all, highest);
    }
    floats most = splat(largest(highest));
    for (int p = 0; p < width; p += LANES) {
        char *to = (char *)scores + p * itemsize(kind);
        floats all = exponential((load(FLOAT32, scores + p) - most) * scale);
        store_all(kind, to, within(p, begin, end, all, 0));
        sum += load(kind, to);
    }
    return total(sum);
}
