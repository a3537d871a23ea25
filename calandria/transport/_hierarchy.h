/* The coarse levels: graphs of aggregates, each a connected, strongly coupled part of a block of 2 x 2 x 2 blocks.

   Splitting a block at weak faces keeps good conductors that a poor one parts in different aggregates; without it the
   cycle cannot move an island against its surroundings and stalls at a wrong answer.
   Nodes of red blocks come first: neighbours lie in blocks of the other colour (but for odd periodic extents, and for a block that ranks cut,
   whose pieces move at the same time), so that a sweep hardly depends on how the volume was cut into parts. Nodes of other parts that this one touches (its halo) follow its own. */
#ifndef CALANDRIA_TRANSPORT_HIERARCHY_H
#define CALANDRIA_TRANSPORT_HIERARCHY_H
#include <math.h>
#include <string.h>
#include "_memory.h"

enum { MOST_LEVELS = 40, DIRECT = 100, MOST_DIRECT = 600 };

/* Blocks that leave more than this share of a level's nodes give way to pairs; and the next level is visited twice if its work is less than this
   share. Visited once it takes Galerkin's sums: conductances of `between` overcorrect by up to 2, which two visits make up for, but
   single visits that stack under a double one would not, and the cycle would lose its positive definiteness. */
static const double SHRUNK = 0.6;

typedef struct {
    int32_t column;
    float g;
} Entry;

typedef struct {
    int32_t n, halo, red, twice;
    int32_t *start, *middle, *parent; /* entries of row i: earlier nodes from start[i], later ones from middle[i] */
    Entry *entry;
    float *end, *inside, *inverse, *x, *b;
    uint16_t *block;
} Level;

typedef struct {
    int32_t count;
    Level level[MOST_LEVELS];
    double *factor;
} Hierarchy;

static void level_clear(Level *level)
{
    free(level->start), free(level->middle), free(level->parent), free(level->entry), free(level->end), free(level->inside);
    free(level->inverse), free(level->x), free(level->b), free(level->block);
    memset(level, 0, sizeof *level);
}

static inline int colour_of(const uint16_t *block)
{
    return (block[0] + block[1] + block[2]) & 1;
}

static int axis_between(const uint16_t *a, const uint16_t *b)
{
    return a[0] != b[0] ? 0 : a[1] != b[1] ? 1 : a[2] != b[2] ? 2 : 3;
}

/* Conductance between centres of aggregates whose touching faces sum to `sum`: the way inside each of them adds half of
   its through resistance. Exact in a uniform medium (sum / 2), Galerkin's sum between islands; the lower limit keeps the
   coarse operator within a factor of 2 of Galerkin's, which keeps two cycles in a row positive definite. Both sides get the same
   to the last bit: where a good conductor hangs on by a poor one, a difference by rounding would make the operator indefinite. */
static inline float between(float sum, float inside_a, float inside_b)
{
    const float a = inside_a > 0 ? 0.5f / inside_a : 0, b = inside_b > 0 ? 0.5f / inside_b : 0;
    const float g = 1.0f / (1.0f / sum + (a + b));
    return g > 0.5f * sum ? g : 0.5f * sum;
}

/* Room for the arrays of n own and `halo` other nodes with `entries`; 0 without memory. */
static int level_room(Level *level, int32_t n, int32_t halo, int64_t entries)
{
    const size_t all = (size_t)n + halo + 1;
    level->n = n, level->halo = halo;
    level->start = ROOM(int32_t, n), level->entry = ROOM(Entry, entries);
    level->end = ZEROS(float, n), level->inside = ZEROS(float, 3 * all);
    level->block = ROOM(uint16_t, 3 * all);
    return level->start && level->entry && level->end && level->inside && level->block;
}

/* Turns the face sums of a level into conductances, once `inside` and `block` of its halo are there, and sorts the rows. */
static int level_finish(Level *level)
{
    const int32_t n = level->n;
    const size_t all = (size_t)n + level->halo + 1;
    level->middle = ROOM(int32_t, n), level->inverse = ROOM(float, n);
    level->x = ZEROS(float, all), level->b = ZEROS(float, n);
    if (!level->middle || !level->inverse || !level->x || !level->b) return 0;
    level->red = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint16_t *home = level->block + 3 * i;
        const int colour = colour_of(home);
        level->red += !colour;
        float diagonal = 0;
        int32_t middle = level->start[i];
        for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) {
            Entry found = level->entry[e];
            const int axis = axis_between(home, level->block + 3 * found.column);
            if (axis < 3) found.g = between(found.g, level->inside[3 * i + axis], level->inside[3 * found.column + axis]);
            diagonal += found.g;
            level->entry[e] = found;
            if (found.column < n ? found.column < i : colour && !colour_of(level->block + 3 * found.column)) {
                level->entry[e] = level->entry[middle];
                level->entry[middle++] = found;
            }
        }
        level->middle[i] = middle;
        if (level->end[i] > 0) level->end[i] = between(level->end[i], level->inside[3 * i], 0);
        diagonal += level->end[i];
        level->inverse[i] = diagonal > 0 ? 1.0f / diagonal : 0;
    }
    free(level->inside), level->inside = NULL;
    return 1;
}

/* Numbers the strongly joined parts of each block of the next level: blocks of one colour after the other, in raster order.
   parent and block (of the next level, 3 per node) have room for the level's nodes. Returns how many, -1 without memory. */
static int32_t level_aggregate(const Level *level, float threshold, int32_t *parent, uint16_t *block)
{
    const int32_t n = level->n;
    int64_t blocks = 1;
    int32_t grid[3], least[3] = {65535, 65535, 65535}, count = -1;
    for (int32_t i = 0; i < n; i++)
        for (int a = 0; a < 3; a++)
            if (level->block[3 * i + a] >> 1 < least[a]) least[a] = level->block[3 * i + a] >> 1;
    for (int a = 0; a < 3; a++) grid[a] = 1;
    for (int32_t i = 0; i < n; i++)
        for (int a = 0; a < 3; a++)
            if ((level->block[3 * i + a] >> 1) - least[a] >= grid[a]) grid[a] = (level->block[3 * i + a] >> 1) - least[a] + 1;
    for (int a = 0; a < 3; a++) blocks *= grid[a];
    int32_t *first = ZEROS(int32_t, 2 * blocks + 1), *order = ROOM(int32_t, n);
    int32_t *key = ROOM(int32_t, n), *stack = ROOM(int32_t, n);
    float *strongest = ROOM(float, n);
    if (!first || !order || !key || !stack || !strongest) goto end;
    for (int32_t i = 0; i < n; i++) {
        const int z = level->block[3 * i] >> 1, y = level->block[3 * i + 1] >> 1, x = level->block[3 * i + 2] >> 1;
        key[i] = (int32_t)(((z + y + x) & 1) * blocks + ((int64_t)(z - least[0]) * grid[1] + y - least[1]) * grid[2] + x - least[2]);
        first[key[i] + 2]++;
        float best = 0;
        for (int32_t e = level->start[i]; e < level->start[i + 1]; e++)
            if (level->entry[e].g > best) best = level->entry[e].g;
        strongest[i] = best * threshold;
        parent[i] = -1;
    }
    for (int64_t k = 1; k < 2 * blocks + 1; k++) first[k + 1] += first[k];
    for (int32_t i = 0; i < n; i++) order[first[key[i] + 1]++] = i;
    count = 0;
    for (int32_t k = 0; k < n; k++) {
        if (parent[order[k]] >= 0) continue;
        const int32_t home = key[order[k]];
        for (int a = 0; a < 3; a++) block[3 * count + a] = level->block[3 * order[k] + a] >> 1;
        int32_t depth = 0;
        parent[order[k]] = count;
        stack[depth++] = order[k];
        while (depth) {
            const int32_t i = stack[--depth];
            for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) {
                const int32_t j = level->entry[e].column;
                if (j >= n || key[j] != home || parent[j] >= 0) continue;
                if (level->entry[e].g < strongest[i] || level->entry[e].g < strongest[j]) continue;
                parent[j] = count;
                stack[depth++] = j;
            }
        }
        count++;
    }
end:
    free(first), free(order), free(key), free(stack), free(strongest);
    return count;
}

/* Sums the entries of a level between the nodes of the next one, in double, so that their order hardly matters; parent holds, halo included, their numbers there, of which the
   first n are its own and `halo` are not. block: 3 per own node. 0 without memory. */
static int level_connect(const Level *fine, const int32_t *parent, const uint16_t *block, int32_t n, int32_t halo, Level *coarse)
{
    const int32_t fine_n = fine->n;
    int32_t *first = ZEROS(int32_t, (size_t)n + 1), *order = ROOM(int32_t, fine_n);
    int32_t *place = ROOM(int32_t, (size_t)n + halo), room = 64;
    double *sum = ROOM(double, room);
    int good = level_room(coarse, n, halo, fine->start[fine_n]) && first && order && place && sum;
    if (!good) goto end;
    memcpy(coarse->block, block, 3 * (size_t)n * sizeof(uint16_t));
    for (int32_t i = 0; i < fine_n; i++) first[parent[i] + 2]++;
    for (int32_t k = 1; k <= n; k++) first[k + 1] += first[k];
    for (int32_t i = 0; i < fine_n; i++) order[first[parent[i] + 1]++] = i;
    for (int32_t k = 0; k < n + halo; k++) place[k] = -1;
    int32_t entries = 0;
    for (int32_t row = 0; row < n; row++) {
        const int32_t start = coarse->start[row] = entries;
        for (int32_t k = first[row]; k < first[row + 1]; k++) {
            const int32_t i = order[k];
            coarse->end[row] += fine->end[i];
            for (int32_t e = fine->start[i]; e < fine->start[i + 1]; e++) {
                const int32_t j = fine->entry[e].column, other = parent[j];
                const float g = fine->entry[e].g;
                if (other == row) {
                    const int axis = axis_between(fine->block + 3 * i, fine->block + 3 * j);
                    if (axis < 3) coarse->inside[3 * row + axis] += 0.5f * g;
                } else if (place[other] < start) {
                    if (entries - start == room) {
                        double *larger = realloc(sum, ((size_t)(room *= 2) + 1) * sizeof(double));
                        if (!larger) {
                            good = 0;
                            goto end;
                        }
                        sum = larger;
                    }
                    place[other] = entries;
                    sum[entries - start] = g;
                    coarse->entry[entries++].column = other;
                } else
                    sum[place[other] - start] += g;
            }
        }
        for (int32_t e = start; e < entries; e++) coarse->entry[e].g = (float)sum[e - start];
    }
    coarse->start[n] = entries;
    Entry *smaller = realloc(coarse->entry, (entries + 1) * sizeof(Entry));
    if (smaller) coarse->entry = smaller;
end:
    free(first), free(order), free(place), free(sum);
    return good;
}

static int factorize(Hierarchy *tree)
{
    const Level *last = &tree->level[tree->count - 1];
    const int n = last->n;
    if (n > MOST_DIRECT) return 1;
    double *l = tree->factor = calloc((size_t)n * n + 1, sizeof(double));
    if (!l) return 0;
    for (int i = 0; i < n; i++) {
        double diagonal = last->end[i];
        for (int32_t e = last->start[i]; e < last->start[i + 1]; e++) {
            diagonal += last->entry[e].g;
            if (last->entry[e].column < i) l[i * n + last->entry[e].column] -= last->entry[e].g;
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
    return 1;
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

/* Gauss-Seidel over the nodes [from, to) in order; zero: nothing but earlier nodes has a value yet. */
static void level_forward(Level *level, int32_t from, int32_t to, int zero)
{
    float *x = level->x;
    const Entry *entry = level->entry;
    for (int32_t i = from; i < to; i++) {
        float sum = level->b[i];
        if (zero) {
            for (int32_t e = level->start[i]; e < level->middle[i]; e++) sum += entry[e].g * x[entry[e].column];
            x[i] = sum * level->inverse[i];
        } else {
            const float here = x[i];
            sum -= level->end[i] * here;
            for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) sum += entry[e].g * (x[entry[e].column] - here);
            x[i] = here + sum * level->inverse[i];
        }
    }
}

static void level_backward(Level *level, int32_t from, int32_t to)
{
    float *x = level->x;
    const Entry *entry = level->entry;
    for (int32_t i = to - 1; i >= from; i--) {
        const float here = x[i];
        float sum = level->b[i] - level->end[i] * here;
        for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) sum += entry[e].g * (x[entry[e].column] - here);
        x[i] = here + sum * level->inverse[i];
    }
}

/* Adds the residual to the next level's right-hand side. zero: it is that of a forward sweep from 0, which is made of later
   nodes only. */
static void level_restrict(const Level *level, const int32_t *parent, float *b, int zero)
{
    const float *x = level->x;
    const Entry *entry = level->entry;
    for (int32_t i = 0; i < level->n; i++) {
        float sum = 0;
        if (zero) {
            for (int32_t e = level->middle[i]; e < level->start[i + 1]; e++) sum += entry[e].g * x[entry[e].column];
        } else {
            const float here = x[i];
            sum = level->b[i] - level->end[i] * here;
            for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) sum += entry[e].g * (x[entry[e].column] - here);
        }
        b[parent[i]] += sum;
    }
}

/* One cycle on level k: solves for x from b, starting from x, or from 0. */
static void cycle(Hierarchy *tree, int k, int zero)
{
    Level *level = &tree->level[k];
    const int32_t n = level->n;
    if (k == tree->count - 1 && tree->factor) {
        solve_last(tree, level);
        return;
    }
    level_forward(level, 0, n, zero);
    if (k < tree->count - 1) {
        Level *next = level + 1;
        memset(next->b, 0, (next->n + 1) * sizeof(float));
        level_restrict(level, level->parent, next->b, zero);
        cycle(tree, k + 1, 1);
        if (level->twice) cycle(tree, k + 1, 0);
        for (int32_t i = 0; i < n; i++) level->x[i] += next->x[level->parent[i]];
    }
    level_backward(level, 0, n);
}

/* Joins nodes in pairs, and late ones to a pair, where the coupling is not far below the best of either, across blocks too: parts of a
   good conductor that straddles blocks become one, and stay apart from what surrounds it. Returns how many, -1 without memory. */
static int32_t level_match(const Level *level, float least, int32_t *parent, uint16_t *block)
{
    const int32_t n = level->n;
    int32_t count = 0;
    float *strongest = ROOM(float, n);
    if (!strongest) return -1;
    for (int32_t i = 0; i < n; i++) {
        parent[i] = -1;
        strongest[i] = 0;
        for (int32_t e = level->start[i]; e < level->start[i + 1]; e++)
            if (level->entry[e].g > strongest[i]) strongest[i] = level->entry[e].g;
    }
    for (int32_t i = 0; i < n; i++) {
        if (parent[i] >= 0) continue;
        int32_t partner = -1, free_partner = -1;
        float best = 0, free_best = 0;
        for (int32_t e = level->start[i]; e < level->start[i + 1]; e++) {
            const Entry found = level->entry[e];
            if (found.column >= n || found.g < least * fmaxf(strongest[i], strongest[found.column])) continue;
            if (found.g > best) best = found.g, partner = found.column;
            if (parent[found.column] < 0 && found.g > free_best) free_best = found.g, free_partner = found.column;
        }
        if (free_partner < 0 && partner >= 0) {
            parent[i] = parent[partner];
            continue;
        }
        parent[i] = count;
        if (free_partner >= 0) parent[free_partner] = count;
        memcpy(block + 3 * count++, level->block + 3 * i, 3 * sizeof(uint16_t));
    }
    free(strongest);
    return count;
}

/* Numbers the aggregates of a level by blocks, or by pairs (matched) where blocks would hardly shrink it. */
static int32_t level_group(const Level *level, float threshold, int32_t *parent, uint16_t *block, int *matched)
{
    int32_t count = level_aggregate(level, threshold, parent, block);
    *matched = count > SHRUNK * level->n;
    if (!*matched) return count;
    for (float least = 0.25f;; least = least > 1e-9f ? 0.2f * least : 0) {
        count = level_match(level, least, parent, block);
        if (count <= 0.9 * level->n || least == 0) return count;
    }
}

/* Builds the next level of a whole volume; 1 when it is there, 0 when the level does not shrink any more, -1 without memory. */
static int coarsen(Level *fine, Level *coarse, float threshold)
{
    const int32_t n = fine->n;
    int result = -1;
    uint16_t *block = ROOM(uint16_t, 3 * (size_t)n);
    fine->parent = ROOM(int32_t, n);
    if (!fine->parent || !block) goto end;
    int matched;
    const int32_t count = level_group(fine, threshold, fine->parent, block, &matched);
    result = count < 0 ? -1 : count < n ? 1 : 0;
    if (result != 1) goto end;
    result = -1;
    if (!level_connect(fine, fine->parent, block, count, 0, coarse)) goto end;
    const double work = fine->start[n] + n, next = coarse->start[count] + count;
    fine->twice = next < SHRUNK * work;
    /* blocks of a matched node may lie apart, so that the way inside it has no meaning either */
    if (matched || !fine->twice) memset(coarse->inside, 0, 3 * ((size_t)count + 1) * sizeof(float));
    if (level_finish(coarse)) result = 1;
end:
    free(block);
    return result;
}
#endif
