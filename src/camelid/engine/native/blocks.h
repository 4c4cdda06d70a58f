#pragma once
// Keys and values in blocks of 16 positions, block after block through a sequence's table.
//
// A block's numbers stand in units of 4 bytes, a float or two neighbouring bfloat16: keys as [unit of a
// vector, position], so that 16 scores are summed side by side; values as [position, or two of them,
// dimension].

#include "vectors.h"

enum { KV_BLOCK = 16, QUERIES = 16, UNIT = 4 };

// Keys or values of one layer and one key-value head. At 8 bits a position's vector has a scale of its own,
// behind the block's codes.
typedef struct {
    char *first;  // of block 0
    int64_t block_bytes;  // from a block to the next
    const int32_t *table;
    int32_t kind, packed, stride;  // packed: 8-bit codes that are turned into `kind`; stride: padded head_dim
    int32_t begin, end;  // blocks of the table that are read
} Past;

INLINE char *block_at(const Past *past, int index) {
    return past->first + past->table[index] * past->block_bytes;
}

// Where value `i` of position `p` of a block lies, in numbers of `kind`.
INLINE int key_place(int kind, int p, int i) {
    int count = UNIT / itemsize(kind);
    return (i / count * KV_BLOCK + p) * count + i % count;
}
INLINE int value_place(int kind, int stride, int p, int i) {
    int count = UNIT / itemsize(kind);
    return (p / count * stride + i) * count + p % count;
}

// Writes `dim` numbers of `kind`, of one position of a block, to their places.
INLINE void scatter(int kind, int is_key, int stride, int position, const char *numbers, int dim,
                    char *block) {
    int size = itemsize(kind);
    for (int i = 0; i < dim; i++) {
        int place = is_key ? key_place(kind, position, i) : value_place(kind, stride, position, i);
        memcpy(block + place * size, numbers + i * size, size);
    }
}

// Prefetches the cache lines that `write_position` writes, all at once.
static void prefetch_position(const Past *past, int is_key, int position) {
    int offset = position % KV_BLOCK, stride = past->stride, size = itemsize(past->kind);
    char *block = block_at(past, position / KV_BLOCK);
    if (past->packed) {
        __builtin_prefetch(block + offset * stride, 1);
        return;
    }
    for (int i = 0; i < stride; i += is_key ? UNIT / size : LANES) {
        int place = is_key ? key_place(past->kind, offset, i) : value_place(past->kind, stride, offset, i);
        __builtin_prefetch(block + place * size, 1);
    }
}

// Writes the vector of one position into its block.
static void write_position(const Past *past, int is_key, int position, const float *vector, int dim) {
    int offset = position % KV_BLOCK, stride = past->stride;
    char *block = block_at(past, position / KV_BLOCK);
    if (past->packed) {
        float most = 0, odd = 0;  // odd: a NaN where there is one, or an infinity
        for (int i = 0; i < dim; i++) most = fmaxf(most, fabsf(vector[i])), odd += 0 * vector[i];
        int8_t *codes = (int8_t *)block + offset * stride;
        for (int i = 0; i < dim; i++) codes[i] = (int8_t)rintf(most > 0 ? vector[i] * (127 / most) : 0);
        ((float *)(block + KV_BLOCK * stride))[offset] = most / 127 + odd;
        return;
    }
    char numbers[4 * dim];
    store(past->kind, numbers, vector, dim);
    if (past->kind == FLOAT32) scatter(FLOAT32, is_key, stride, offset, numbers, dim, block);
    else if (is_key) scatter(BFLOAT16, 1, stride, offset, numbers, dim, block);
    else scatter(BFLOAT16, 0, stride, offset, numbers, dim, block);
}

INLINE void fetch_block(const char *block, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(block + at);
}

// Where the block lies that is read two blocks later: of `past`, or behind its last one of `after`.
INLINE const char *ahead_of(const Past *past, int block, const Past *after) {
    int ahead = block + 2;
    if (ahead < past->end) return block_at(past, ahead);
    ahead += after->begin - past->end;
    return block_at(after, ahead < after->end ? ahead : after->end - 1);
}

INLINE const char *block_of(const Past *past, int is_key, int block, char *scratch) {
    const char *at = block_at(past, block);
    if (!past->packed) return at;
    int stride = past->stride, kind = past->kind;
    const float *scales = (const float *)(at + KV_BLOCK * stride);
    for (int p = 0; p < KV_BLOCK; p++)
        for (int i = 0; i < stride; i += LANES) {
            char few[4 * LANES],
                *to = scratch +
                      (is_key ? key_place(kind, 0, i) : value_place(kind, stride, 0, i)) * itemsize(kind);
            store_all(kind, few, multiply(widen_signed(at + p * stride + i), splat(scales[p])));
            scatter(kind, is_key, stride, p, few, LANES, to);
        }
    return scratch;
}

// Two neighbouring blocks; a last block without a neighbour is in both fields.
typedef struct {
    const char *first, *second;
} Pair;

// Two blocks, or one, `scratch` having room for both.
INLINE Pair pair_of(const Past *past, int is_key, int block, int blocks, char *scratch) {
    const char *first = block_of(past, is_key, block, scratch);
    int64_t bytes = (int64_t)KV_BLOCK * past->stride * itemsize(past->kind);
    return (Pair){first, blocks > 1 ? block_of(past, is_key, block + 1, scratch + bytes) : first};
}
