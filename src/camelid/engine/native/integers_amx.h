#pragma once
// Packed products of many rows in AMX: 16 rows by 16 outputs by a segment of inputs in one instruction, for
// which `integers.h` needs hundreds. Sums of codes are the same exact integers.

#include "amx.h"
#include "integers.h"

#if defined(AMX) && defined(__AMX_INT8__) && defined(__AVX512VNNI__)
#define INTEGERS_IN_AMX
enum { FEWEST_AMX_ROWS = 8 };  // from which on it pays

// Registers: 0 to 3 are sums, 4 and 5 weights of two tiles, 6 and 7 activations of two sixteens of rows.
static void shape_for_integers(int segment) {
    Shapes shapes = {0};
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = i < 6 ? 64 : segment;
        shapes.rows[i] = i == 4 || i == 5 ? segment / 4 : AMX_ROWS;
    }
    load_shapes(&shapes);
}

// A segment of one tile as AMX takes it: [quad of inputs, output, input of the quad]; behind the last line
// zeros.
INLINE void spread(int kind, const char *line, int count, int quads, __m512i *to) {
    int each = kind == INT4 ? 2 : 1;
    for (int i = 0; i < count; i++, line += 64) {
        fetch_ahead(line);
        __m512i all = _mm512_loadu_si512(line);
        to[i * each] = kind == INT4 ? low_half(all) : all;
        if (kind == INT4) to[i * each + 1] = high_half(all);
    }
    for (int i = count * each; i < quads; i++) to[i] = _mm512_setzero_si512();
}

// sums[tile][row] = codes . weights of a segment, for two tiles, which registers 4 and 5 hold, and up to 32
// rows.
INLINE void multiply_integers(const int8_t *codes, int64_t stride, int rows, __m512i (*sums)[2 * AMX_ROWS]) {
    _tile_loadd(6, codes, stride);
    _tile_zero(0);
    _tile_dpbsud(0, 6, 4);
    _tile_zero(1);
    _tile_dpbsud(1, 6, 5);
    if (rows > AMX_ROWS) {
        _tile_loadd(7, codes + AMX_ROWS * stride, stride);
        _tile_zero(2);
        _tile_dpbsud(2, 7, 4);
        _tile_zero(3);
        _tile_dpbsud(3, 7, 5);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    if (rows <= AMX_ROWS) return;
    _tile_stored(2, sums[0] + AMX_ROWS, 64);
    _tile_stored(3, sums[1] + AMX_ROWS, 64);
}

// `count` tiles by `rows` rows: y[r][16 t + lane], a last tile without another one twice.
INLINE void integers_amx(int kind, const Linear *l, int first, int count, const Activations *x, int row,
                         int rows, float *y, int64_t step) {
    int per_segment = x->segment / inputs_of_line(kind), all = lines(l), segments = x->segments;
    __m512i weights[2][LARGEST_SEGMENT / 4], sums[2][2 * AMX_ROWS];
    shape_for_integers(x->segment);
    for (int s = 0, line = 0; line < all; s++, line += per_segment) {
        int group = s * x->segment / l->group, present = all - line < per_segment ? all - line : per_segment;
        for (int t = 0; t < count; t += 2) {
            floats scales[2];
            ints zeros[2];
            for (int i = 0; i < 2; i++) {
                int tile = first + (t + i < count ? t + i : t);
                spread(kind, tile_lines(l, tile) + (int64_t)line * 64, present, x->segment / 4, weights[i]);
                scales[i] = group_scale(l, tile, group), zeros[i] = group_zero(l, tile, group);
            }
            WRITTEN();
            _tile_loadd(4, weights[0], 64);
            _tile_loadd(5, weights[1], 64);
            for (int top = 0; top < rows; top += 2 * AMX_ROWS) {
                int here = rows - top < 2 * AMX_ROWS ? rows - top : 2 * AMX_ROWS;
                multiply_integers(x->codes + (int64_t)(row + top) * x->stride + s * x->segment, x->stride,
                                  here, sums);
                const int32_t *owing = x->owing + (int64_t)(row + top) * segments + s;
                const float *of_row = x->scales + (int64_t)(row + top) * segments + s;
                float *to = y + top * step + t * LANES;
                for (int r = 0; r < here; r++, to += step, owing += segments, of_row += segments)
                    for (int i = 0; i < 2; i++) {
                        __m512i exact = less_zeros(sums[i][r], zeros[i], *owing);
                        floats before = s ? load(FLOAT32, to + i * LANES) : splat(0);
                        store_all(FLOAT32, to + i * LANES, add_segment(before, exact, scales[i], *of_row));
                    }
            }
        }
    }
    _tile_release();
}
#endif
