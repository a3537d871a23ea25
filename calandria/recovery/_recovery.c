/* Fits spheres to a labelled grid by soft rendering: occupancies 1 / (1 + exp((d - r) / w)), their union per phase, active material over CBD. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "extension.h"

EXTENSION_MODULE(_recovery)

enum { CBD = 1, AM = 2, VOID = 4 };

typedef struct {
    int64_t nz, ny, nx;
    int y_wraps, x_wraps;
    int64_t n;
    const uint8_t *labels, *code;
    float softness, reach;
} Scene;

/* Per voxel the products of 1 - occupancy, later their weights in the gradient; and the voxels of one ball: where they are, from its
   centre, squared distance, weight or vacancy. */
typedef struct {
    float *cbd, *am, *dz, *dy, *dx, *square, *value;
    int64_t *slot;
} Scratch;

static int64_t wrapped(int64_t index, int64_t size) {
    index %= size;
    return index < 0 ? index + size : index;
}

/* exp to 2e-7 for |u| <= 87, by arithmetic that compilers vectorize */
static inline float exponential(float u) {
    const float y = u * 1.44269504f, whole = (y + 12582912.0f) - 12582912.0f, f = y - whole;
    const float p = 1.0f + f * (0.693147182f + f * (0.240226507f + f * (0.0555041086f + f * (0.00961812911f + f * (0.00133335581f + f * 0.000154035304f)))));
    const int32_t bits = ((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* 1 - occupancy at signed depth (d - r) / w; not below 6e-6, so that products do not underflow */
static inline float vacancy(float u) {
    u = u < -12.0f ? -12.0f : u;
    u = u > 30.0f ? 30.0f : u;
    const float e = exponential(u);
    return e / (1.0f + e);
}

KERNEL static void ball_of_vacancies(const float *restrict square, float *restrict value, int64_t length, float radius, float per_width) {
#pragma omp simd
    for (int64_t t = 0; t < length; t++)
        value[t] = vacancy((sqrtf(square[t]) - radius) * per_width);
}

/* sums of weight * occupancy * (dz / d, dy / d, dx / d, 1) */
KERNEL static void ball_of_gradients(const Scratch *ball, int64_t length, float radius, float per_width, double *sums) {
    const float *restrict dz = ball->dz, *restrict dy = ball->dy, *restrict dx = ball->dx, *restrict square = ball->square;
    const float *restrict weight = ball->value;
    float plain = 0, up = 0, aside = 0, along = 0;
#pragma omp simd reduction(+ : plain, up, aside, along)
    for (int64_t t = 0; t < length; t++) {
        const float d = sqrtf(square[t] + 1e-12f), share = weight[t] * (1.0f - vacancy((d - radius) * per_width)), slope = share / d;
        plain += share;
        up += slope * dz[t];
        aside += slope * dy[t];
        along += slope * dx[t];
    }
    sums[0] = up;
    sums[1] = aside;
    sums[2] = along;
    sums[3] = plain;
}

/* The block of rows that a ball touches; false when it lies outside. */
static int rows_of(const Scene *s, const double *centre, double radius, int64_t *low, int64_t *high) {
    const int64_t size[3] = {s->nz, s->ny, s->nx};
    const int wraps[3] = {0, s->y_wraps, s->x_wraps};
    for (int axis = 0; axis < 3; axis++) {
        low[axis] = (int64_t)ceil(centre[axis] - radius);
        high[axis] = (int64_t)floor(centre[axis] + radius);
        if (!wraps[axis]) {
            low[axis] = low[axis] < 0 ? 0 : low[axis];
            high[axis] = high[axis] >= size[axis] ? size[axis] - 1 : high[axis];
        }
        if (low[axis] > high[axis])
            return 0;
    }
    return 1;
}

/* The run along x of a row of a ball; false when it is empty. */
static int run_of(const Scene *s, double x, double square, int64_t *first, int64_t *last) {
    if (square < 0)
        return 0;
    const double half = sqrt(square);
    *first = (int64_t)ceil(x - half);
    *last = (int64_t)floor(x + half);
    if (!s->x_wraps) {
        *first = *first < 0 ? 0 : *first;
        *last = *last >= s->nx ? s->nx - 1 : *last;
    }
    return *first <= *last;
}

/* Visits the voxels within `reach` of each sphere's surface. With `gradient` NULL the vacancies are multiplied into the scratch, deeper
   inside the least vacancy; otherwise its weights are summed into gradient (n, 4): z, y, x, radius. */
static void visit(const Scene *s, const double *centre, const double *radius, Scratch *scratch, double *gradient) {
    const float per_width = 1.0f / s->softness, full = vacancy(-INFINITY);
    for (int64_t p = 0; p < s->n; p++) {
        const double *c = centre + 3 * p, outer = radius[p] + s->reach, inner = radius[p] - s->reach;
        float *field = s->code[p] == AM ? scratch->am : scratch->cbd;
        int64_t low[3], high[3], length = 0;
        if (rows_of(s, c, outer, low, high))
            for (int64_t k = low[0]; k <= high[0]; k++)
                for (int64_t j = low[1]; j <= high[1]; j++) {
                    const double dz = (double)k - c[0], dy = (double)j - c[1], flat = dz * dz + dy * dy;
                    const double deep = inner > 0 ? inner * inner - flat : -1;
                    int64_t first, last, deep_first = 1, deep_last = 0;
                    if (!run_of(s, c[2], outer * outer - flat, &first, &last))
                        continue;
                    if (!run_of(s, c[2], deep, &deep_first, &deep_last))
                        deep_first = last + 1, deep_last = last;
                    const int64_t line = (k * s->ny + wrapped(j, s->ny)) * s->nx;
                    int64_t x = wrapped(first, s->nx);
                    for (int64_t i = first; i <= last; i++, x++) {
                        x = x == s->nx ? 0 : x;
                        if (i >= deep_first && i <= deep_last) {
                            if (!gradient)
                                field[line + x] *= full;
                            continue;
                        }
                        const float dx = (float)((double)i - c[2]);
                        scratch->dz[length] = (float)dz;
                        scratch->dy[length] = (float)dy;
                        scratch->dx[length] = dx;
                        scratch->square[length] = (float)flat + dx * dx;
                        scratch->slot[length++] = line + x;
                    }
                }
        if (gradient) {
            for (int64_t t = 0; t < length; t++)
                scratch->value[t] = field[scratch->slot[t]];
            ball_of_gradients(scratch, length, (float)radius[p], per_width, gradient + 4 * p);
        } else {
            ball_of_vacancies(scratch->square, scratch->value, length, (float)radius[p], per_width);
            for (int64_t t = 0; t < length; t++)
                field[scratch->slot[t]] *= scratch->value[t];
        }
    }
}

/* Squared error of a row of voxels; the vacancies become the weights of the gradient. */
KERNEL static double row_of_errors(const uint8_t *restrict labels, float *restrict cbd, float *restrict am, int64_t length, float per_width) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < length; t++) {
        const float known = labels[t] == VOID ? 0.0f : 1.0f, is_am = labels[t] == AM ? 1.0f : 0.0f, is_cbd = labels[t] == CBD ? 1.0f : 0.0f;
        const float error_am = known * (1.0f - am[t] - is_am), error_cbd = known * ((1.0f - cbd[t]) * am[t] - is_cbd);
        sum += error_am * error_am + error_cbd * error_cbd;
        const float slope_am = -2.0f * error_am + 2.0f * error_cbd * (1.0f - cbd[t]), slope_cbd = -2.0f * error_cbd * am[t];
        am[t] = -per_width * am[t] * slope_am;
        cbd[t] = -per_width * cbd[t] * slope_cbd;
    }
    return sum;
}

static double evaluate(const Scene *s, const double *centre, const double *radius, Scratch *scratch, double *gradient) {
    const int64_t rows = s->nz * s->ny;
    for (int64_t v = 0; v < rows * s->nx; v++)
        scratch->cbd[v] = scratch->am[v] = 1.0f;
    visit(s, centre, radius, scratch, NULL);
    double loss = 0;
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * s->nx;
        loss += row_of_errors(s->labels + at, scratch->cbd + at, scratch->am + at, s->nx, 1.0f / s->softness);
    }
    visit(s, centre, radius, scratch, gradient);
    return loss;
}

static int take(Scratch *scratch, const Scene *s, double largest) {
    const size_t voxels = (size_t)(s->nz * s->ny * s->nx), side = (size_t)(2 * (largest + s->reach)) + 2, ball = side * side * side;
    scratch->cbd = malloc((2 * voxels + 5 * ball) * sizeof(float));
    scratch->slot = malloc(ball * sizeof(int64_t));
    if (!scratch->cbd || !scratch->slot) {
        free(scratch->cbd);
        free(scratch->slot);
        return 0;
    }
    scratch->am = scratch->cbd + voxels;
    scratch->dz = scratch->am + voxels;
    scratch->dy = scratch->dz + ball;
    scratch->dx = scratch->dy + ball;
    scratch->square = scratch->dx + ball;
    scratch->value = scratch->square + ball;
    return 1;
}

static void give_back(Scratch *scratch) {
    free(scratch->cbd);
    free(scratch->slot);
}

static double largest_of(const double *values, int64_t n) {
    double largest = 0;
    for (int64_t p = 0; p < n; p++)
        largest = values[p] > largest ? values[p] : largest;
    return largest;
}

/* Squared error of n spheres (centres (n, 3) along z, y, x and radii in voxels, the centre of voxel 0 at 0) over the voxels that are not
   void, and its gradient (n, 4): z, y, x, radius. -1 without memory. */
EXPORT double rendering_error(const uint8_t *labels, int64_t nz, int64_t ny, int64_t nx, int y_wraps, int x_wraps, int64_t n,
                              const double *centre, const double *radius, const uint8_t *code, double softness, double reach,
                              double *gradient) {
    const Scene s = {nz, ny, nx, y_wraps, x_wraps, n, labels, code, (float)softness, (float)reach};
    Scratch scratch;
    if (!take(&scratch, &s, largest_of(radius, n)))
        return -1;
    const double loss = evaluate(&s, centre, radius, &scratch, gradient);
    give_back(&scratch);
    return loss;
}

/* Adam (betas 0.8 and 0.98) on centres and radii in place; radii at half the rate and kept within lowest and highest (n). The rate falls
   along half a cosine to a tenth. Returns the error before the last step, -1 without memory. */
EXPORT double fit_spheres(const uint8_t *labels, int64_t nz, int64_t ny, int64_t nx, int y_wraps, int x_wraps, int64_t n, double *centre,
                          double *radius, const uint8_t *code, double softness, double reach, const double *lowest,
                          const double *highest, int64_t iterations, double rate) {
    const Scene s = {nz, ny, nx, y_wraps, x_wraps, n, labels, code, (float)softness, (float)reach};
    Scratch scratch;
    double *moments = calloc((size_t)(12 * n) + 1, sizeof(double)), loss = -1;
    if (!moments)
        return -1;
    if (!take(&scratch, &s, fmax(largest_of(highest, n), largest_of(radius, n)))) {
        free(moments);
        return -1;
    }
    double *gradient = moments, *mean = moments + 4 * n, *square = moments + 8 * n, mean_share = 1, square_share = 1;
    for (int64_t step = 0; step < iterations; step++) {
        loss = evaluate(&s, centre, radius, &scratch, gradient);
        const double now = rate * (0.55 + 0.45 * cos(M_PI * (double)step / (double)iterations));
        mean_share *= 0.8;
        square_share *= 0.98;
        for (int64_t q = 0; q < 4 * n; q++) {
            const int64_t p = q / 4, axis = q % 4;
            mean[q] = 0.8 * mean[q] + 0.2 * gradient[q];
            square[q] = 0.98 * square[q] + 0.02 * gradient[q] * gradient[q];
            const double move = now * (mean[q] / (1 - mean_share)) / (sqrt(square[q] / (1 - square_share)) + 1e-8);
            if (axis < 3)
                centre[3 * p + axis] -= move;
            else
                radius[p] = fmin(fmax(radius[p] - 0.5 * move, lowest[p]), highest[p]);
        }
    }
    give_back(&scratch);
    free(moments);
    return loss;
}

/* Paints the spheres (a voxel is inside where d2 <= r2; active material over CBD), and counts per sphere how many voxels it alone sets
   right minus how many it alone sets wrong; void voxels do not count. painted: (nz, ny, nx); gain: (n). -1 without memory. */
EXPORT int own_gains(const uint8_t *labels, int64_t nz, int64_t ny, int64_t nx, int y_wraps, int x_wraps, int64_t n,
                     const double *centre, const double *radius, const uint8_t *code, uint8_t *painted, int64_t *gain) {
    const Scene s = {nz, ny, nx, y_wraps, x_wraps, n, labels, code, 0, 0};
    const int64_t voxels = nz * ny * nx;
    uint16_t *cbd = calloc((size_t)(2 * voxels), sizeof *cbd), *am = cbd + voxels;
    if (!cbd)
        return -1;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t p = 0; p < n; p++) {
            const double *c = centre + 3 * p, r = radius[p];
            int64_t low[3], high[3], total = 0;
            if (rows_of(&s, c, r, low, high))
                for (int64_t k = low[0]; k <= high[0]; k++)
                    for (int64_t j = low[1]; j <= high[1]; j++) {
                        const double dz = (double)k - c[0], dy = (double)j - c[1];
                        int64_t first, last;
                        if (!run_of(&s, c[2], r * r - dz * dz - dy * dy, &first, &last))
                            continue;
                        const int64_t line = (k * ny + wrapped(j, ny)) * nx;
                        for (int64_t i = first; i <= last; i++) {
                            const int64_t v = line + wrapped(i, nx);
                            if (!pass) {
                                uint16_t *count = code[p] == AM ? am + v : cbd + v;
                                *count += *count < UINT16_MAX;
                            } else if (labels[v] != VOID && (code[p] == AM ? am[v] == 1 : am[v] == 0 && cbd[v] == 1)) {
                                const uint8_t without = code[p] == AM && cbd[v] ? CBD : 0;
                                total += (labels[v] == code[p]) - (labels[v] == without);
                            }
                        }
                    }
            if (pass)
                gain[p] = total;
        }
    for (int64_t v = 0; v < voxels; v++)
        painted[v] = labels[v] == VOID ? VOID : am[v] ? AM : cbd[v] ? CBD : 0;
    free(cbd);
    return 0;
}
