#pragma once
// The softmax of a row of scores.

#include "vectors.h"

// Whether each of p..p+15 is in begin..end-1, as a mask.
INLINE ints positions_within(int p, int begin, int end) {
    static const int32_t count[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ints all;
    memcpy(&all, count, sizeof all);
    all = add_ints(all, splat_ints(p));
    return both(below(splat_ints(begin - 1), all), below(all, splat_ints(end)));
}

// Lanes p..p+15 where they are in begin..end-1, else `other`.
INLINE floats within(int p, int begin, int end, floats all, float other) {
    if (p >= begin && p + LANES <= end) return all;
    return choose(positions_within(p, begin, end), all, splat(other));
}

// Turns the scores of positions begin..end-1 into exp(scale * (score - maximum)), all others up to `width`
// into 0, as numbers of `kind` from the row's beginning on; returns their sum.
INLINE float softmax(int kind, float *scores, int begin, int end, int width, float scale) {
    floats highest = splat(-INFINITY), sum = splat(0);
    for (int p = 0; p < width; p += LANES) {
        floats all = within(p, begin, end, load(FLOAT32, scores + p), -INFINITY);
        highest = choose(above(all, highest), all, highest);
    }
    floats most = splat(largest(highest));
    for (int p = 0; p < width; p += LANES) {
        char *to = (char *)scores + p * itemsize(kind);
        floats all = exponential(multiply(subtract(load(FLOAT32, scores + p), most), splat(scale)));
        store_all(kind, to, within(p, begin, end, all, 0));
        sum = add(sum, load(kind, to));
    }
    return total(sum);
}
