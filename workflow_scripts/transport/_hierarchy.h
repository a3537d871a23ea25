/* The coarse levels: graphs of aggregates, each a connected, strongly coupled part of a block of 2 x 2 x 2 blocks.

   Splitting a block at weak faces keeps good conductors that a poor one parts in different aggregates; without it the
   cycle cannot move an island against its surroundings and stalls at a wrong answer.
   Nodes of red blocks come first: neighbours lie in blocks of the other colour (but for odd periodic extents), so that
   the sweep does not depend on how the volume was cut into ranks. */
#ifndef CALANDRIA_TRANSPORT_HIERARCHY_H
#define CALANDRIA_TRANSPORT_HIERARCHY_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LEVELS = 40, DIRECT = 100, MOST_DIRECT = 600 };

typedef struct {
    int n, twice, grid[3];
    int32_t *start, *column, *parent;
    float *g, *end, *inverse, *x, *b;
    uint16_t *block;
} Level;

typedef struct {
    int count;
    Level level[MOST_LEVELS];
    double *factor;
} Hierarchy;

static void level_free(Level *level)
{
    free(level->start), free(level->column), free(level->parent), free(level->g), free(level->end);
    free(level->inverse), free(level->x), free(level->b), free(level->block);
    memset(level, 0, sizeof *level);
}

static int axis_between(const uint16_t *a, const uint16_t *b)
{
    return a[0] != b[0] ? 0 : a[1] != b[1] ? 1 : a[2] != b[2] ? 2 : 3;
}

/* Conductance between centres of aggregates whose touching faces sum to `sum`: the way inside each of them adds half of
   its through resistance. Exact in a uniform medium (sum / 2), Galerkin's sum between islands; the lower limit keeps the
   coarse operator within a factor of 2 of Galerkin's, which keeps two cycles in a row positive definite. */
static inline float between(float sum, float inside_a, float inside_b)
{
    float resistance = 1.0f / sum;
    if (inside_a > 0) resistance += 0.5f / inside_a;
    if (inside_b > 0) resistance += 0.5f / inside_b;
    float g = 1.0f / resistance;
    return g > 0.5f * sum ? g : 0.5f * sum;
}

/* Turns the face sums of a level into conductances; `inside` holds per node and axis the conductance through it. */
static int level_finish(Level *level, const float *inside, int direction)
{
    const int n = level->n;
    level->inverse = malloc((n + 1) * sizeof(float));
    level->x = calloc(n + 1, sizeof(float));
    level->b = calloc(n + 1, sizeof(float));
    if (!level->inverse || !level->x || !level->b) return -1;
    for (int i = 0; i < n; i++) {
        float diagonal = 0;
        for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) {
            const int j = level->column[e], axis = axis_between(level->block + 3 * i, level->block + 3 * j);
            if (axis < 3) level->g[e] = between(level->g[e], inside[3 * i + axis], inside[3 * j + axis]);
            diagonal += level->g[e];
        }
        if (level->end[i] > 0) level->end[i] = between(level->end[i], inside[3 * i + direction], 0);
        diagonal += level->end[i];
        level->inverse[i] = diagonal > 0 ? 1.0f / diagonal : 0;
    }
    return 0;
}

/* Numbers the strongly joined parts of each block of `fine`; returns how many, in the order red blocks, black blocks. */
static int aggregate(Level *fine, Level *coarse, float threshold, const int32_t *order, const int32_t *first, int blocks)
{
    float *strongest = malloc((fine->n + 1) * sizeof(float));
    int32_t *stack = malloc((fine->n + 1) * sizeof(int32_t));
    if (!strongest || !stack) return free(strongest), free(stack), -1;
    for (int i = 0; i < fine->n; i++) {
        strongest[i] = 0;
        fine->parent[i] = -1;
        for (int32_t e = fine->start[i]; e < fine->start[i + 1]; e++)
            if (fine->g[e] > strongest[i]) strongest[i] = fine->g[e];
    }
    int count = 0;
    for (int block = 0; block < 2 * blocks; block++)
        for (int32_t k = first[block]; k < first[block + 1]; k++) {
            if (fine->parent[order[k]] >= 0) continue;
            const uint16_t *home = fine->block + 3 * order[k];
            for (int a = 0; a < 3; a++) coarse->block[3 * count + a] = home[a] >> 1;
            int depth = 0;
            fine->parent[order[k]] = count;
            stack[depth++] = order[k];
            while (depth) {
                const int i = stack[--depth];
                for (int32_t e = fine->start[i]; e < fine->start[i + 1]; e++) {
                    const int j = fine->column[e];
                    const uint16_t *there = fine->block + 3 * j;
                    if (fine->parent[j] >= 0 || home[0] >> 1 != there[0] >> 1 || home[1] >> 1 != there[1] >> 1 ||
                        home[2] >> 1 != there[2] >> 1)
                        continue;
                    if (fine->g[e] < threshold * fmaxf(strongest[i], strongest[j])) continue;
                    fine->parent[j] = count;
                    stack[depth++] = j;
                }
            }
            count++;
        }
    free(strongest), free(stack);
    return count;
}

/* Builds the next level; returns 1 when it is there, 0 when the level does not shrink any more, -1 without memory. */
static int coarsen(Level *fine, Level *coarse, int direction, float threshold)
{
    const int n = fine->n;
    int blocks = 1;
    for (int a = 0; a < 3; a++) blocks *= coarse->grid[a] = (fine->grid[a] + 1) / 2;
    fine->parent = malloc((n + 1) * sizeof(int32_t));
    coarse->block = malloc((n + 1) * 3 * sizeof(uint16_t));
    int32_t *first = calloc(2 * (size_t)blocks + 2, sizeof(int32_t)), *order = malloc((n + 1) * sizeof(int32_t));
    int32_t *key = malloc((n + 1) * sizeof(int32_t)), *place = NULL;
    float *inside = NULL;
    int result = -1;
    if (!fine->parent || !coarse->block || !first || !order || !key) goto end;
    for (int i = 0; i < n; i++) {
        const int z = fine->block[3 * i] >> 1, y = fine->block[3 * i + 1] >> 1, x = fine->block[3 * i + 2] >> 1;
        key[i] = ((z + y + x) & 1) * blocks + (z * coarse->grid[1] + y) * coarse->grid[2] + x;
        first[key[i] + 2]++;
    }
    for (int k = 1; k < 2 * blocks + 1; k++) first[k + 1] += first[k];
    for (int i = 0; i < n; i++) order[first[key[i] + 1]++] = i;
    int count = aggregate(fine, coarse, threshold, order, first, blocks);
    while (count > 0.7 * n && threshold > 0) {
        threshold = threshold > 1e-7f ? 0.1f * threshold : 0;
        count = aggregate(fine, coarse, threshold, order, first, blocks);
    }
    result = count < 0 ? -1 : count < n ? 1 : 0;
    if (result < 1) goto end;
    coarse->n = count;
    coarse->start = calloc(count + 2, sizeof(int32_t));
    coarse->column = malloc((fine->start[n] + 1) * sizeof(int32_t));
    coarse->g = malloc((fine->start[n] + 1) * sizeof(float));
    coarse->end = calloc(count + 1, sizeof(float));
    inside = calloc(3 * (size_t)count + 1, sizeof(float));
    place = malloc((count + 1) * sizeof(int32_t));
    result = -1;
    if (!coarse->start || !coarse->column || !coarse->g || !coarse->end || !inside || !place) goto end;
    free(first), first = calloc(count + 2, sizeof(int32_t));
    if (!first) goto end;
    for (int i = 0; i < n; i++) first[fine->parent[i] + 2]++;
    for (int k = 1; k <= count; k++) first[k + 1] += first[k];
    for (int i = 0; i < n; i++) order[first[fine->parent[i] + 1]++] = i;
    for (int k = 0; k < count; k++) place[k] = -1;
    int32_t entries = 0;
    for (int row = 0; row < count; row++) {
        coarse->start[row] = entries;
        for (int32_t k = first[row]; k < first[row + 1]; k++) {
            const int i = order[k];
            coarse->end[row] += fine->end[i];
            for (int32_t e = fine->start[i]; e < fine->start[i + 1]; e++) {
                const int j = fine->column[e], other = fine->parent[j];
                if (other == row) {
                    const int axis = axis_between(fine->block + 3 * i, fine->block + 3 * j);
                    if (axis < 3) inside[3 * row + axis] += 0.5f * fine->g[e];
                } else if (place[other] < coarse->start[row]) {
                    place[other] = entries;
                    coarse->column[entries] = other;
                    coarse->g[entries++] = fine->g[e];
                } else
                    coarse->g[place[other]] += fine->g[e];
            }
        }
    }
    coarse->start[count] = entries;
    fine->parent[n] = count;
    void *column = realloc(coarse->column, (entries + 1) * sizeof(int32_t));
    if (column) coarse->column = column;
    void *g = realloc(coarse->g, (entries + 1) * sizeof(float));
    if (g) coarse->g = g;
    result = level_finish(coarse, inside, direction) ? -1 : 1;
end:
    free(first), free(order), free(key), free(place), free(inside);
    return result;
}

static int factorize(Hierarchy *tree)
{
    const Level *last = &tree->level[tree->count - 1];
    const int n = last->n;
    if (n > MOST_DIRECT) return 0;
    double *l = tree->factor = calloc((size_t)n * n + 1, sizeof(double));
    if (!l) return -1;
    for (int i = 0; i < n; i++) {
        double diagonal = last->end[i];
        for (int32_t e = last->start[i]; e < last->start[i + 1]; e++) {
            diagonal += last->g[e];
            if (last->column[e] < i) l[i * n + last->column[e]] -= last->g[e];
        }
        l[i * n + i] = diagonal;
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            double sum = l[i * n + j];
            for (int k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
            if (i != j)
                l[i * n + j] = sum / l[j * n + j];
            else /* rounding may eat a pivot of a part that hangs on by a thread; any positive one keeps the cycle definite */
                l[i * n + i] = sqrt(fmax(sum, 1e-9 * l[i * n + i]));
        }
    return 0;
}

static void solve_last(const Hierarchy *tree, Level *last)
{
    const int n = last->n;
    const double *l = tree->factor;
    double y[MOST_DIRECT];
    for (int i = 0; i < n; i++) {
        double sum = last->b[i];
        for (int k = 0; k < i; k++) sum -= l[i * n + k] * y[k];
        y[i] = sum / l[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        double sum = y[i];
        for (int k = i + 1; k < n; k++) sum -= l[k * n + i] * y[k];
        last->x[i] = (float)(y[i] = sum / l[i * n + i]);
    }
}

static inline float residual_of(const Level *level, int i)
{
    const float here = level->x[i];
    float sum = level->b[i] - level->end[i] * here;
    for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) sum += level->g[e] * (level->x[level->column[e]] - here);
    return sum;
}

/* One cycle on level k: solves for x from b, starting from x (or from 0). */
static void cycle(Hierarchy *tree, int k, int from_zero)
{
    Level *level = &tree->level[k];
    const int n = level->n;
    if (k == tree->count - 1 && tree->factor) {
        solve_last(tree, level);
        return;
    }
    if (from_zero) memset(level->x, 0, (n + 1) * sizeof(float));
    for (int i = 0; i < n; i++) level->x[i] += residual_of(level, i) * level->inverse[i];
    if (k < tree->count - 1) {
        Level *next = level + 1;
        memset(next->b, 0, (next->n + 1) * sizeof(float));
        for (int i = 0; i < n; i++) next->b[level->parent[i]] += residual_of(level, i);
        cycle(tree, k + 1, 1);
        if (level->twice) cycle(tree, k + 1, 0);
        for (int i = 0; i < n; i++) level->x[i] += next->x[level->parent[i]];
    }
    for (int i = n - 1; i >= 0; i--) level->x[i] += residual_of(level, i) * level->inverse[i];
}
#endif
