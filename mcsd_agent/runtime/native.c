/* The operators of a step, one after the other, in one call: what the `native` engine runs every tick.
 *
 * onnx_native.py writes the program: a list of instructions whose operands and results are arrays that it has
 * allocated, checked and keeps. Nothing here allocates, decides or can fail. There is no Python in this file: it is
 * compiled where the package is installed and loaded with ctypes.
 *
 * Sizes and strides are in elements. Arithmetic is float32; exp, tanh and log1p are polynomials of our own fit
 * (iterated least squares, relative error below 3e-7 with rounding), so that compilers can use vector registers.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#ifdef __GNUC__
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address)
#endif

enum { OUT, A, B, C };

/* Fields and order as in onnx_native.Instruction. */
typedef struct {
    int32_t operation, kind;
    int64_t size[3];
    int64_t stride[4][3]; /* of out, a, b, c */
    void *operand[4];     /* likewise */
    float alpha, beta;
} Instruction;

enum { UNARY, BINARY, COMPARE, SELECT, CAST, PRODUCT, MATMUL, NORM, ROTARY, REDUCE, SOFTMAX, ARGMAX, GATHER, COPY };

/* --- functions of one number ---------------------------------------------------------------------------------- */

INLINE float bits(uint32_t value) {
    float x;
    memcpy(&x, &value, sizeof x);
    return x;
}

INLINE float exponential(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -110.0f ? -110.0f : x; /* of which comes 0 */
    /* Adding 1.5 * 2^23 rounds to an integer, which is then in the lowest bits. */
    const float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    int32_t whole;
    memcpy(&whole, &shifted, sizeof whole);
    whole -= 0x4B400000;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    const float q = 0.49999993f + r * (0.1666652f + r * (0.041668394f + r * (0.0083687805f + r * 0.0013814466f)));
    /* In two factors, because 2^128 and 2^-150 are none. */
    const int32_t half = whole >> 1;
    return ((1.0f + r) + r * r * q) * bits((uint32_t)(half + 127) << 23) * bits((uint32_t)(whole - half + 127) << 23);
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float tangent(float x) {
    const float size = fabsf(x), z = size * size;
    const float near_0 =
        size + size * z * (-0.33333282f + z * (0.13331442f + z * (-0.053739714f + z * (0.020639084f + z * -0.005704984f))));
    const float far = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
    return copysignf(size < 0.625f ? near_0 : far, x);
}

/* log(1 + u) for u from 0 to 1 */
INLINE float log_of_1_and(float u) {
    const int above = u > 0.41421356f;
    const float x = above ? 0.5f * (u - 1.0f) : u; /* 1 + u = 2 (1 + x) */
    const float l = 0.33333332f + x * (-0.25000823f + x * (0.20001235f + x * (-0.16623301f + x * (0.14201505f
        + x * (-0.13160505f + x * (0.12763651f + x * -0.07636299f))))));
    return (above ? 0.69314718f : 0.0f) + (x - x * x * (0.5f - x * l));
}

INLINE float softplus(float x) { return log_of_1_and(exponential(-fabsf(x))) + (x > 0.0f ? x : 0.0f); }

INLINE float bounded(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* --- one number after another ---------------------------------------------------------------------------------- */

#define ROWS(instruction) \
    for (int64_t row_0 = 0; row_0 < (instruction)->size[0]; row_0++) \
        for (int64_t row_1 = 0; row_1 < (instruction)->size[1]; row_1++)

#define AT(type, which) \
    ((type *)instruction->operand[which] + row_0 * instruction->stride[which][0] + row_1 * instruction->stride[which][1])

enum { ABSOLUTE, NEGATIVE, RECIPROCAL, ROOT, EXP, SIGMOID, TANH, SOFTPLUS, SOFTSIGN, RELU, GELU, HARD_SIGMOID, CLIP };

/* size[2] numbers that lie side by side */
INLINE void unary(const Instruction *instruction) {
    const int64_t n = instruction->size[2];
    const float alpha = instruction->alpha, beta = instruction->beta;
    float *restrict out = (float *)instruction->operand[OUT];
    const float *restrict a = (const float *)instruction->operand[A];
#define CASE(kind, value) case kind: for (int64_t i = 0; i < n; i++) { const float x = a[i]; out[i] = (value); } break
    switch (instruction->kind) {
        CASE(ABSOLUTE, fabsf(x));
        CASE(NEGATIVE, -x);
        CASE(RECIPROCAL, 1.0f / x);
        CASE(ROOT, sqrtf(x));
        CASE(EXP, exponential(x));
        CASE(SIGMOID, sigmoid(x));
        CASE(TANH, tangent(x));
        CASE(SOFTPLUS, softplus(x));
        CASE(SOFTSIGN, x / (1.0f + fabsf(x)));
        CASE(RELU, x < 0.0f ? 0.0f : x);
        CASE(GELU, x * sigmoid(alpha * x)); /* x σ(αx): QuickGelu, Swish */
        CASE(HARD_SIGMOID, bounded(alpha * x + beta, 0.0f, 1.0f));
        CASE(CLIP, bounded(x, alpha, beta));
    }
#undef CASE
}

/* Also an offset: of the kinds that are for int64. */
enum { INTEGERS = 8 };
enum { ADD, SUBTRACT, MULTIPLY, DIVIDE, LARGER, SMALLER };

/* Written so that NaN stays. */
INLINE float larger(float x, float y) { return x > y || x != x ? x : y; }
INLINE float smaller(float x, float y) { return x < y || x != x ? x : y; }

/* Of a row of the result the numbers lie side by side; an operand's do too, or it is one number: stride 1 or 0. */
INLINE void binary(const Instruction *instruction) {
    const int64_t n = instruction->size[2], sa = instruction->stride[A][2], sb = instruction->stride[B][2];
#define CASE(type, kind, sign) case kind: { \
        type *restrict out = AT(type, OUT); \
        const type *restrict a = AT(const type, A), *restrict b = AT(const type, B); \
        if (sa && sb) for (int64_t i = 0; i < n; i++) out[i] = a[i] sign b[i]; \
        else if (sa) for (int64_t i = 0; i < n; i++) out[i] = a[i] sign *b; \
        else for (int64_t i = 0; i < n; i++) out[i] = *a sign b[i * sb]; \
    } break
#define CHOICE(kind, function) case kind: { \
        float *restrict out = AT(float, OUT); \
        const float *restrict a = AT(const float, A), *restrict b = AT(const float, B); \
        for (int64_t i = 0; i < n; i++) out[i] = function(a[i * sa], b[i * sb]); \
    } break
    ROWS(instruction) {
        switch (instruction->kind) {
            CASE(float, ADD, +);
            CASE(float, SUBTRACT, -);
            CASE(float, MULTIPLY, *);
            CASE(float, DIVIDE, /);
            CHOICE(LARGER, larger);
            CHOICE(SMALLER, smaller);
            CASE(int64_t, ADD + INTEGERS, +);
            CASE(int64_t, SUBTRACT + INTEGERS, -);
            CASE(int64_t, MULTIPLY + INTEGERS, *);
        }
    }
#undef CHOICE
#undef CASE
}

enum { EQUAL, LESS, LESS_OR_EQUAL, GREATER, GREATER_OR_EQUAL };

INLINE void compare(const Instruction *instruction) {
    const int64_t n = instruction->size[2], sa = instruction->stride[A][2], sb = instruction->stride[B][2];
#define CASE(type, kind, sign) case kind: { \
        const type *restrict a = AT(const type, A), *restrict b = AT(const type, B); \
        for (int64_t i = 0; i < n; i++) out[i] = a[i * sa] sign b[i * sb]; \
    } break
#define CASES(type, more) \
        CASE(type, EQUAL + (more), ==); \
        CASE(type, LESS + (more), <); \
        CASE(type, LESS_OR_EQUAL + (more), <=); \
        CASE(type, GREATER + (more), >); \
        CASE(type, GREATER_OR_EQUAL + (more), >=)
    ROWS(instruction) {
        uint8_t *restrict out = AT(uint8_t, OUT);
        switch (instruction->kind) {
            CASES(float, 0);
            CASES(int64_t, INTEGERS);
        }
    }
#undef CASES
#undef CASE
}

/* a ? b : c */
INLINE void choose(const Instruction *instruction) {
    const int64_t n = instruction->size[2];
    const int64_t sa = instruction->stride[A][2], sb = instruction->stride[B][2], sc = instruction->stride[C][2];
    ROWS(instruction) {
        float *restrict out = AT(float, OUT);
        const uint8_t *restrict first = AT(const uint8_t, A);
        const float *restrict b = AT(const float, B), *restrict c = AT(const float, C);
        if (!sa && sb && sc) memcpy(out, *first ? b : c, (size_t)n * sizeof *out);
        else for (int64_t i = 0; i < n; i++) out[i] = first[i * sa] ? b[i * sb] : c[i * sc];
    }
}

enum { FLOAT_OF_BOOL, FLOAT_OF_INTEGER, INTEGER_OF_BOOL, FLOAT_OF_BYTE, NOT, SIZE_OF_INTEGER };

INLINE void cast(const Instruction *instruction) {
    const int64_t n = instruction->size[2];
#define CASE(kind, to, from, value) case kind: { \
        to *restrict out = (to *)instruction->operand[OUT]; \
        const from *restrict a = (const from *)instruction->operand[A]; \
        for (int64_t i = 0; i < n; i++) out[i] = (to)(value); \
    } break
    switch (instruction->kind) {
        CASE(FLOAT_OF_BOOL, float, uint8_t, a[i] != 0);
        CASE(FLOAT_OF_INTEGER, float, int64_t, a[i]);
        CASE(INTEGER_OF_BOOL, int64_t, uint8_t, a[i] != 0);
        CASE(FLOAT_OF_BYTE, float, uint8_t, a[i]);
        CASE(NOT, uint8_t, uint8_t, a[i] == 0);
        CASE(SIZE_OF_INTEGER, int64_t, int64_t, a[i] < 0 ? -a[i] : a[i]);
    }
#undef CASE
}

/* `kind` bytes an element; strides are in these */
INLINE void copy(const Instruction *instruction) {
    const int64_t n = instruction->size[2], so = instruction->stride[OUT][2], sa = instruction->stride[A][2];
    const size_t width = (size_t)instruction->kind;
    ROWS(instruction) {
        char *out = (char *)instruction->operand[OUT]
            + (row_0 * instruction->stride[OUT][0] + row_1 * instruction->stride[OUT][1]) * (int64_t)width;
        const char *a = (const char *)instruction->operand[A]
            + (row_0 * instruction->stride[A][0] + row_1 * instruction->stride[A][1]) * (int64_t)width;
        if (so == 1 && sa == 1) memcpy(out, a, (size_t)n * width);
        else if (width == 4)
            for (int64_t i = 0; i < n; i++) ((uint32_t *)out)[i * so] = ((const uint32_t *)a)[i * sa];
        else
            for (int64_t i = 0; i < n; i++) memcpy(out + (size_t)(i * so) * width, a + (size_t)(i * sa) * width, width);
    }
}

/* --- products ---------------------------------------------------------------------------------------------------- */

/* Eight vector registers of AVX2. */
#define TILE 64
/* Asked for this many numbers ahead, weights have arrived from the outer caches when they are needed. */
#define AHEAD 1024

/* y = x (k) by a tile of `columns`, row after row. The sums stay in registers, so that nothing is read but the tile. */
INLINE void tile(const float *restrict x, int64_t k, const float *restrict w, int columns, float *restrict y) {
    float sum[TILE];
    for (int j = 0; j < columns; j++) sum[j] = 0.0f;
    for (int64_t i = 0; i < k; i++) {
        const float v = x[i];
        for (int line = 0; line < columns; line += 16) PREFETCH(w + i * columns + line + AHEAD);
        for (int j = 0; j < columns; j++) sum[j] += v * w[i * columns + j];
    }
    for (int j = 0; j < columns; j++) y[j] = sum[j];
}

/* out (m, n) = a (m, k) W + beta c, W in tiles of TILE columns, then of 8, the last one filled up with zeros. */
INLINE void product(const Instruction *instruction) {
    const int64_t m = instruction->size[0], k = instruction->size[1], n = instruction->size[2];
    const float *w = (const float *)instruction->operand[B];
    const float beta = instruction->beta;
    const int64_t step = instruction->stride[C][1];
    for (int64_t column = 0, columns; column < n; column += columns) {
        columns = n - column >= TILE ? TILE : 8;
        const int64_t used = n - column < columns ? n - column : columns;
        for (int64_t row = 0; row < m; row++) {
            const float *restrict x = (const float *)instruction->operand[A] + row * instruction->stride[A][0];
            float *restrict out = (float *)instruction->operand[OUT] + row * n + column;
            float y[TILE];
            if (columns == TILE) tile(x, k, w, TILE, y);
            else tile(x, k, w, 8, y);
            if (instruction->operand[C]) {
                const float *restrict c = (const float *)instruction->operand[C] + row * instruction->stride[C][0] + column * step;
                for (int64_t j = 0; j < used; j++) y[j] += beta * c[j * step];
            }
            memcpy(out, y, (size_t)used * sizeof *out);
        }
        w += k * columns;
    }
}

/* One of several products of two operands that both change: `kind` is the length of what is summed over, size[0] says
 * how many products, stride[..][0] how far apart. stride[..][1], [2]: of out its rows and columns, of a its rows and
 * what is summed, of b what is summed and its columns. */
INLINE void matmul(const Instruction *instruction) {
    const int64_t m = instruction->size[1], n = instruction->size[2], k = instruction->kind;
    const int64_t *so = instruction->stride[OUT], *sa = instruction->stride[A], *sb = instruction->stride[B];
    for (int64_t one = 0; one < instruction->size[0]; one++)
        for (int64_t row = 0; row < m; row++) {
            float *restrict out = (float *)instruction->operand[OUT] + one * so[0] + row * so[1];
            const float *restrict a = (const float *)instruction->operand[A] + one * sa[0] + row * sa[1];
            const float *restrict b = (const float *)instruction->operand[B] + one * sb[0];
            if (sb[2] == 1 && so[2] == 1) {
                for (int64_t j = 0; j < n; j++) out[j] = 0.0f;
                for (int64_t i = 0; i < k; i++) {
                    const float v = a[i * sa[2]];
                    const float *restrict line = b + i * sb[1];
                    for (int64_t j = 0; j < n; j++) out[j] += v * line[j];
                }
            } else {
                for (int64_t j = 0; j < n; j++) {
                    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                    for (int64_t i = 0; i < k; i++) sum += a[i * sa[2]] * b[i * sb[1] + j * sb[2]];
                    out[j * so[2]] = sum;
                }
            }
        }
}

/* --- rows -------------------------------------------------------------------------------------------------------- */

/* RMSNorm of contiguous rows: x w / √(mean x² + ε) */
INLINE void norm(const Instruction *instruction) {
    const int64_t n = instruction->size[2];
    const float *restrict weight = (const float *)instruction->operand[B];
    for (int64_t row = 0; row < instruction->size[1]; row++) {
        float *restrict out = (float *)instruction->operand[OUT] + row * n;
        const float *restrict x = (const float *)instruction->operand[A] + row * n;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
        const float factor = 1.0f / sqrtf(sum / (float)n + instruction->alpha);
        for (int64_t i = 0; i < n; i++) out[i] = x[i] * factor * weight[i];
    }
}

/* Halves of contiguous rows as complex numbers, times b + ic of the row; rows of b and c repeat after size[1]. */
INLINE void rotary(const Instruction *instruction) {
    const int64_t half = instruction->size[2];
    ROWS(instruction) {
        const int64_t at = (row_0 * instruction->size[1] + row_1) * 2 * half;
        float *restrict out = (float *)instruction->operand[OUT] + at;
        const float *restrict x = (const float *)instruction->operand[A] + at;
        const float *restrict cosine = (const float *)instruction->operand[B] + row_1 * half;
        const float *restrict sine = (const float *)instruction->operand[C] + row_1 * half;
        for (int64_t i = 0; i < half; i++) {
            out[i] = cosine[i] * x[i] - sine[i] * x[half + i];
            out[half + i] = sine[i] * x[i] + cosine[i] * x[half + i];
        }
    }
}

enum { SUM, SUM_OF_SIZES, MAXIMUM };

/* a (outer, middle, inner), contiguous, to out (outer, inner) */
INLINE void reduce(const Instruction *instruction) {
    const int64_t middle = instruction->size[1], inner = instruction->size[2];
    for (int64_t row = 0; row < instruction->size[0]; row++) {
        float *restrict out = (float *)instruction->operand[OUT] + row * inner;
        const float *restrict a = (const float *)instruction->operand[A] + row * middle * inner;
        if (inner == 1 && instruction->kind != MAXIMUM) {
            float sum = 0.0f;
            if (instruction->kind == SUM) {
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < middle; i++) sum += a[i];
            } else {
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < middle; i++) sum += fabsf(a[i]);
            }
            out[0] = sum * instruction->alpha;
            continue;
        }
        for (int64_t j = 0; j < inner; j++) out[j] = instruction->kind == SUM_OF_SIZES ? fabsf(a[j]) : a[j];
        for (int64_t i = 1; i < middle; i++) {
            const float *restrict line = a + i * inner;
            switch (instruction->kind) {
                case SUM: for (int64_t j = 0; j < inner; j++) out[j] += line[j]; break;
                case SUM_OF_SIZES: for (int64_t j = 0; j < inner; j++) out[j] += fabsf(line[j]); break;
                /* written so that NaN stays */
                default: for (int64_t j = 0; j < inner; j++) out[j] = out[j] >= line[j] || out[j] != out[j] ? out[j] : line[j];
            }
        }
        if (instruction->kind != MAXIMUM) for (int64_t j = 0; j < inner; j++) out[j] *= instruction->alpha;
    }
}

INLINE void softmax(const Instruction *instruction) {
    const int64_t n = instruction->size[2];
    for (int64_t row = 0; row < instruction->size[1]; row++) {
        float *restrict out = (float *)instruction->operand[OUT] + row * n;
        const float *restrict x = (const float *)instruction->operand[A] + row * n;
        float top = x[0], sum = 0.0f;
        for (int64_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
        for (int64_t i = 0; i < n; i++) out[i] = exponential(x[i] - top);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += out[i];
        const float factor = 1.0f / sum;
        for (int64_t i = 0; i < n; i++) out[i] *= factor;
    }
}

/* The first of the largest; a NaN counts as larger than anything, as in NumPy. */
INLINE void argmax(const Instruction *instruction) {
    const int64_t n = instruction->size[2];
    for (int64_t row = 0; row < instruction->size[1]; row++) {
        const float *x = (const float *)instruction->operand[A] + row * n;
        int64_t best = 0;
        for (int64_t i = 1; i < n && x[best] == x[best]; i++)
            if (x[i] > x[best] || x[i] != x[i]) best = i;
        ((int64_t *)instruction->operand[OUT])[row] = best;
    }
}

/* Constant places, checked when the program was written: out (outer, count, inner) = a[:, b]; `kind` bytes an element,
 * stride[A][0] elements from one outer row to the next. */
INLINE void gather(const Instruction *instruction) {
    const int64_t count = instruction->size[1], inner = instruction->size[2] * instruction->kind;
    const int64_t *places = (const int64_t *)instruction->operand[B];
    for (int64_t row = 0; row < instruction->size[0]; row++) {
        char *out = (char *)instruction->operand[OUT] + row * count * inner;
        const char *a = (const char *)instruction->operand[A] + row * instruction->stride[A][0] * instruction->kind;
        if (inner == 8)
            for (int64_t i = 0; i < count; i++) ((int64_t *)out)[i] = ((const int64_t *)a)[places[i]];
        else
            for (int64_t i = 0; i < count; i++) memcpy(out + i * inner, a + places[i] * inner, (size_t)inner);
    }
}

/* --- the program --------------------------------------------------------------------------------------------------- */

/* One version with AVX2 and one without; which is taken is decided when the library is loaded. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("arch=haswell", "default")))
#endif
void mcsd_run(const Instruction *program, int64_t length) {
    for (const Instruction *instruction = program; instruction < program + length; instruction++) {
        switch (instruction->operation) {
            case UNARY: unary(instruction); break;
            case BINARY: binary(instruction); break;
            case COMPARE: compare(instruction); break;
            case SELECT: choose(instruction); break;
            case CAST: cast(instruction); break;
            case PRODUCT: product(instruction); break;
            case MATMUL: matmul(instruction); break;
            case NORM: norm(instruction); break;
            case ROTARY: rotary(instruction); break;
            case REDUCE: reduce(instruction); break;
            case SOFTMAX: softmax(instruction); break;
            case ARGMAX: argmax(instruction); break;
            case GATHER: gather(instruction); break;
            case COPY: copy(instruction); break;
        }
    }
}

/* So that what was compiled from another version of this file is not run: to be raised with every change of what
 * instructions mean, here and in native_program.py. */
int64_t mcsd_version(void) { return 1000 * 1 + sizeof(Instruction); }
