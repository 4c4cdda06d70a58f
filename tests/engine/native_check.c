// Checks the decoder's products on one processor against plain loops: compiled with that processor's flags by
// test_native_targets.py, which compares the digests that are printed.
//
// With EMULATED_VNNI the instruction of AVX-VNNI is written out in AVX2, so that its code runs where there is
// none.

#ifdef EMULATED_VNNI
#include <immintrin.h>
#include <stdint.h>
static inline __m256i dpbusd(__m256i sum, __m256i codes, __m256i quads) {
    int32_t all[8];
    uint8_t w[32];
    int8_t x[32];
    _mm256_storeu_si256((void *)all, sum), _mm256_storeu_si256((void *)w, codes),
        _mm256_storeu_si256((void *)x, quads);
    for (int i = 0; i < 32; i++) all[i / 4] += w[i] * x[i];
    return _mm256_loadu_si256((void *)all);
}
#define __AVXVNNI__ 1
#define _mm256_dpbusd_avx_epi32 dpbusd
#endif

#include <stdio.h>

#include "decoder.c"

enum { MOST = 4096 };
static uint64_t state = 1, digest = 14695981039346656037u;
static int failures;

static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}
static float uniform(void) { return draw() / 1073741824.0f - 1; }

static void note(const void *bytes, int count) {
    for (int i = 0; i < count; i++) digest = (digest ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
}

// Whether sums are those of fused multiplications, which the reference uses.
static int fuses(void) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__AVX512F__)
    return 1;
#else
    return 0;
#endif
}

static void check(const char *what, int a, int b, float ours, double theirs, double size) {
    if (fabs(ours - theirs) <= size && failures < 20) return;
    failures++;
    printf("%s %d %d: %.9g instead of %.9g\n", what, a, b, ours, theirs);
}

// One row, rounded to codes by a scale for each segment, and one output's product with it.
static float reference(const float *x, int inner, int segment, const uint8_t *codes, const float *scales,
                       const uint8_t *zeros, int group) {
    float sum = 0;
    for (int begin = 0; begin < inner; begin += segment) {
        float most = 0;
        int end = begin + segment < inner ? begin + segment : inner, exact = 0;
        for (int i = begin; i < end; i++) most = fmaxf(most, fabsf(x[i]));
        float inverse = most > 0 ? 127 / most : 0, scaled = scales[begin / group] * (most / 127);
        for (int i = begin; i < end; i++)
            exact += (codes[i] - zeros[begin / group]) * (int)rintf(x[i] * inverse);
        sum = fuses() ? fmaf(exact, scaled, sum) : sum + exact * scaled;
    }
    return sum;
}

static void packed(int bits, int inner, int outer, int group, int segment, int rows, int extreme) {
    int kind = bits == 4 ? INT4 : INT8, lines_count = inner * bits / 32, tiles_count = (outer + 15) / 16,
        groups_count = (inner + group - 1) / group;
    static uint32_t integers[MOST * 64];
    static _Alignas(64) uint32_t lines[MOST * 64];
    static _Alignas(64) float scales[MOST * 16], x[MOST * 16], y[64 * 64], of_row[MOST];
    static _Alignas(64) uint8_t zeros[MOST * 16];
    static _Alignas(64) int8_t codes_of_row[MOST * 16];
    static int32_t owing[MOST];
    for (int i = 0; i < lines_count * outer; i++)
        integers[i] = extreme ? (draw() & 1 ? 0xffffffff : 0) : draw() << 1 ^ draw();
    for (int i = 0; i < tiles_count * groups_count * 16; i++)
        scales[i] = uniform() * 0.01f,
        zeros[i] = extreme ? (draw() & 1 ? (1 << bits) - 1 : 0) : draw() % (1 << bits);
    for (int i = 0; i < rows * inner; i++)
        x[i] = extreme ? (draw() % 8 ? 3.0f : -3.0f) : uniform() * (draw() % 50 ? 1 : 40);
    camelid_pack(&(Packing){integers, lines, bits, lines_count, outer}, 1);
    Linear linear = {.weight = lines,
                     .scales = scales,
                     .zeros = zeros,
                     .kind = kind,
                     .outer = outer,
                     .inner = inner,
                     .group = group,
                     .zero_step = 16};
    int whole = !camelid_integers();
    static _Alignas(64) float rows_whole[MOST * 16];
    Activations to = {.codes = codes_of_row,
                      .scales = of_row,
                      .owing = owing,
                      .stride = round_up(inner, 64) | 64,
                      .segments = (inner + segment - 1) / segment,
                      .segment = segment};
    if (whole) to.codes = NULL, to.whole = rows_whole;
    for (int r = 0; r < rows; r++) pack_activations(&to, r, 0, x + r * inner, inner, inner);
    for (int begin = 0; begin < outer; begin += 64) {
        int end = begin + 64 < outer ? begin + 64 : outer;
        product_packed(&linear, begin, end, &to, 0, rows, y, 64);
        for (int r = 0; r < rows; r++)
            for (int o = begin; o < end; o++) {
                uint8_t codes[MOST], own_zeros[MOST];
                float own_scales[MOST];
                for (int i = 0; i < inner; i++)
                    codes[i] = integers[(i * bits / 32) * outer + o] >> (i * bits % 32) & ((1 << bits) - 1);
                for (int g = 0; g < groups_count; g++) {
                    int at = (o / 16 * groups_count + g) * 16 + o % 16;
                    own_scales[g] = scales[at], own_zeros[g] = zeros[at];
                }
                double expected =
                    reference(x + r * inner, inner, segment, codes, own_scales, own_zeros, group);
                double size = 0;  // of differences: products of activations that are not rounded are as exact
                                  // as float32
                for (int i = 0; whole && i < inner; i++) {
                    double product =
                        (double)x[r * inner + i] * (codes[i] - own_zeros[i / group]) * own_scales[i / group];
                    expected = i ? expected + product : product;
                    size += 1e-5 * fabs(product);
                }
                check(bits == 4 ? "4 bits" : "8 bits", inner, o, y[r * 64 + o - begin], expected, size);
                note(&y[r * 64 + o - begin], 4);
            }
    }
}

static void dense(int kind, int inner, int outer, int rows) {
    static _Alignas(64) char weight[MOST * 64 * 4], x[MOST * 16 * 4];
    static _Alignas(64) float y[64 * 64], scratch[MOST * 64];
    int arithmetic = kind == FLOAT32 ? FLOAT32 : camelid_arithmetic();
    for (int i = 0; i < inner * outer; i++) {
        float value = uniform();
        store(kind, weight + i * itemsize(kind), &value, 1);
    }
    for (int i = 0; i < inner * rows; i++) {
        float value = uniform(), rounded;
        store_rounded(kind, &rounded, &value, 1);
        store(arithmetic, x + i * itemsize(arithmetic), &rounded, 1);
    }
    Linear linear = {.weight = weight, .kind = kind, .outer = outer, .inner = inner};
    product_dense(arithmetic, &linear, 0, outer, x, rows, y, 64, (char *)scratch);
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outer; o++) {
            double sum = 0;
            for (int i = 0; i < inner; i++)
                sum += (double)load_one(kind, weight, o * inner + i) * load_one(arithmetic, x, r * inner + i);
            check(kind == FLOAT32 ? "float32" : "bfloat16", r, o, y[r * 64 + o], sum, 1e-6 * inner);
        }
}

static void conversions(void) {
    float hard[] = {0,        -0.0f,    1,         1.00390625f, 1.01171875f, 3.3895314e38f,
                    -3.4e38f, INFINITY, -INFINITY, 1e-40f,      0.3f,        -0.7f,
                    65504,    2,        5,         NAN};
    uint16_t half[16];
    store(BFLOAT16, half, hard, 16);
    note(half, 30);  // a NaN's bits may differ
    if (load_one(BFLOAT16, half, 15) == load_one(BFLOAT16, half, 15))
        failures++, printf("NaN became a number\n");
    float x[16], found[16];
    for (int i = 0; i < 16; i++) x[i] = -90 + 8 * i + uniform();
    store_all(FLOAT32, found, exponential(load(FLOAT32, x)));
    for (int i = 0; i < 16; i++) check("exp", i, 0, found[i], x[i] < -87 ? 0 : exp(x[i]), 3e-7 * exp(x[i]));
}

int main(void) {
    conversions();
    int rows[] = {1, 2, 3, 4, 5, 7, 13}, groups[] = {8, 24, 32, 64, 128};
    for (int extreme = 0; extreme < 2; extreme++)
        for (int bits = 4; bits <= 8; bits += 4)
            for (int r = 0; r < 7; r++)
                for (int g = 0; g < 6; g++) {
                    int inner = g == 5 ? 200 : 3 * 128, group = g == 5 ? 200 : groups[g];
                    int segment = g == 5 ? 64 : group == 24 ? 8 : group < 64 ? group : 64;
                    packed(bits, inner, r % 2 ? 48 : 77, group, segment, rows[r], extreme);
                }
    for (int kind = FLOAT32; kind <= BFLOAT16; kind++)
        for (int r = 0; r < 7; r++) dense(kind, r % 2 ? 61 : 128, r % 3 ? 64 : 29, rows[r]);
    printf("%s %016llx\n", failures ? "wrong" : "right", (unsigned long long)digest);
    return failures != 0;
}
