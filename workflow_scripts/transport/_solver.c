/* Kernels of the voxel diffusion solver: percolation, the finest level, and the coarse hierarchy's interface. */
#include "extension.h"
#include "_grid.h"
#include "_hierarchy.h"
EXTENSION_MODULE(_solver)

/* ---- percolation -------------------------------------------------------------------------------------------------- */

static inline int32_t root_of(int32_t *parent, int32_t i)
{
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

static inline void join(int32_t *parent, int32_t a, int32_t b)
{
    a = root_of(parent, a), b = root_of(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

/* root[i]: the lowest index among the voxels that conducting faces join to i, -1 where nothing conducts. */
EXPORT void label_components(const uint8_t *conducts, const int64_t *extent, const uint8_t *wraps, int32_t *root)
{
    const int64_t nz = extent[0], ny = extent[1], nx = extent[2], plane = ny * nx;
    for (int64_t z = 0, i = 0; z < nz; z++)
        for (int64_t y = 0; y < ny; y++)
            for (int64_t x = 0; x < nx; x++, i++) {
                if (!conducts[i]) {
                    root[i] = -1;
                    continue;
                }
                root[i] = x && conducts[i - 1] ? root[i - 1] : (int32_t)i;
                if (y && conducts[i - nx] && !(x && conducts[i - 1] && conducts[i - nx - 1])) join(root, i, i - nx);
                if (z && conducts[i - plane] && !(x && conducts[i - 1] && conducts[i - plane - 1])) join(root, i, i - plane);
            }
    const int64_t step[3] = {plane, nx, 1};
    for (int axis = 0; axis < 3; axis++) {
        if (!wraps[axis]) continue;
        const int a = (axis + 1) % 3, b = (axis + 2) % 3;
        for (int64_t j = 0; j < extent[a]; j++)
            for (int64_t k = 0; k < extent[b]; k++) {
                const int64_t low = j * step[a] + k * step[b], high = low + (extent[axis] - 1) * step[axis];
                if (conducts[low] && conducts[high]) join(root, low, high);
            }
    }
    for (int64_t i = 0; i < nz * plane; i++)
        if (root[i] >= 0) root[i] = root[root[i]] == root[i] ? root[i] : root_of(root, i);
}

/* Clears every voxel whose component is not marked in `kept` (by root); returns how many stay. */
EXPORT int64_t keep_components(uint8_t *conducts, const int32_t *root, const uint8_t *kept, int64_t count)
{
    int64_t left = 0;
    for (int64_t i = 0; i < count; i++) left += conducts[i] = root[i] >= 0 && kept[root[i]];
    return left;
}

/* ---- the finest level --------------------------------------------------------------------------------------------- */

/* Face conductances from diffusivities with their ghosts; end plates stand half a voxel before the first and behind the
   last slice along `direction`, where this part of the volume holds them. */
EXPORT KERNEL void build_faces(const Grid *grid, const float *d, int direction, int has_low, int has_high)
{
    for (int axis = 0; axis < 3; axis++) {
        const int64_t s = grid->stride[axis];
        int64_t from[3] = {0, 0, 0};
        from[axis] = -1;
        float *restrict face = grid->face[axis];
        for (int64_t z = from[0]; z < grid->extent[0]; z++)
            for (int64_t y = from[1]; y < grid->extent[1]; y++) {
                const int64_t row = row_of(grid, z, y);
#pragma GCC ivdep
                for (int64_t i = row + from[2]; i < row + grid->extent[2]; i++) {
                    const double a = d[i], b = d[i + s], product = a * b;
                    face[i] = (float)(product > 0 ? 2 * product / (a + b) : 0);
                }
            }
    }
    const int a = (direction + 1) % 3, b = (direction + 2) % 3;
    const int64_t s = grid->stride[direction], first = row_of(grid, 0, 0), last = first + (grid->extent[direction] - 1) * s;
    for (int64_t j = 0; j < grid->extent[a]; j++)
        for (int64_t k = 0; k < grid->extent[b]; k++) {
            const int64_t at = j * grid->stride[a] + k * grid->stride[b];
            if (has_low) grid->face[direction][first + at - s] = 2 * d[first + at];
            if (has_high) grid->face[direction][last + at] = 2 * d[last + at];
        }
}

#define ROWS(grid)                                                                                                     \
    for (int64_t z = 0; z < (grid)->extent[0]; z++)                                                                    \
        for (int64_t y = 0; y < (grid)->extent[1]; y++)

/* One half sweep of Gauss-Seidel over the voxels of one colour; from_zero takes v as 0 and clears the other colour. */
EXPORT KERNEL void sweep(const Grid *grid, float *v, const float *b, int colour, int from_zero)
{
    FACES(grid);
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        const int parity = (int)((z + y + colour) & 1);
        if (from_zero) {
#pragma GCC ivdep
            for (int64_t i = row; i < row + nx; i++) {
                const float diagonal = DIAGONAL(i);
                v[i] = !(((int)(i - row) + parity) & 1) && diagonal > 0 ? b[i] / diagonal : 0;
            }
        } else {
#pragma GCC ivdep
            for (int64_t i = row; i < row + nx; i++) {
                const float diagonal = DIAGONAL(i), old = v[i], change = (b[i] + INFLOW(v, i)) / diagonal;
                v[i] = !(((int)(i - row) + parity) & 1) && diagonal > 0 ? old + change : old;
            }
        }
    }
}

/* Adds the residual b - A v of each voxel to its aggregate. */
EXPORT KERNEL void restrict_residual(const Grid *grid, const float *v, const float *b, float *coarse)
{
    FACES(grid);
    float *line = malloc(nx * sizeof(float));
    if (!line) return;
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        const int32_t *node = grid->node + row;
        for (int64_t i = row; i < row + nx; i++) line[i - row] = b[i] + INFLOW(v, i);
        for (int64_t x = 0; x < nx; x++) coarse[node[x]] += line[x];
    }
    free(line);
}

EXPORT KERNEL void prolong(const Grid *grid, float *v, const float *coarse)
{
    const int64_t nx = grid->extent[2];
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        const int32_t *restrict node = grid->node + row;
        float *restrict out = v + row;
        for (int64_t x = 0; x < nx; x++) out[x] += coarse[node[x]];
    }
}

/* q = A p; returns p . q */
EXPORT KERNEL double multiply(const Grid *grid, const float *restrict p, float *restrict q)
{
    FACES(grid);
    double total = 0;
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = row; i < row + nx; i++) {
            const float value = -INFLOW(p, i);
            q[i] = value;
            sum += (double)value * p[i];
        }
        total += sum;
    }
    return total;
}

/* residual = (b - A c) * scale from the concentrations in double precision (ghosts hold the plates' values);
   sums: [0] its squared norm before scaling, [1] its sum. */
EXPORT KERNEL void true_residual(const Grid *grid, const double *restrict c, float *restrict residual, double scale, double *sums)
{
    FACES(grid);
    double squares = 0, total = 0;
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        double row_squares = 0, row_total = 0;
#pragma omp simd reduction(+ : row_squares, row_total)
        for (int64_t i = row; i < row + nx; i++) {
            const double value = INFLOW(c, i);
            residual[i] = (float)(value * scale);
            row_squares += value * value;
            row_total += value;
        }
        squares += row_squares, total += row_total;
    }
    sums[0] = squares, sums[1] = total;
}

/* The dissipated energy, sum of g (dc)^2 over the faces that this part owns (the lower faces of its voxels, and the upper
   end plate), and the flux through each plane of faces along `direction`: flux[k] below slice k, flux[extent] at the end. */
EXPORT KERNEL double energy_and_flux(const Grid *grid, const double *c, int direction, int has_high, double *flux)
{
    double energy = 0;
    const int64_t nx = grid->extent[2];
    for (int axis = 0; axis < 3; axis++) {
        const float *restrict face = grid->face[axis];
        const int64_t s = grid->stride[axis];
        ROWS(grid) {
            const int64_t row = row_of(grid, z, y);
            double sum = 0, through = 0;
            if (axis == direction && axis == 2) {
                for (int64_t i = row; i < row + nx; i++) {
                    const double step = c[i] - c[i - 1];
                    sum += face[i - 1] * step * step;
                    flux[i - row] += face[i - 1] * step;
                }
            } else {
#pragma omp simd reduction(+ : sum, through)
                for (int64_t i = row; i < row + nx; i++) {
                    const double step = c[i] - c[i - s];
                    sum += face[i - s] * step * step;
                    through += face[i - s] * step;
                }
                if (axis == direction) flux[axis == 0 ? z : y] += through;
            }
            energy += sum;
        }
    }
    if (has_high) {
        const int a = (direction + 1) % 3, b = (direction + 2) % 3;
        const int64_t s = grid->stride[direction], last = row_of(grid, 0, 0) + (grid->extent[direction] - 1) * s;
        for (int64_t j = 0; j < grid->extent[a]; j++)
            for (int64_t k = 0; k < grid->extent[b]; k++) {
                const int64_t i = last + j * grid->stride[a] + k * grid->stride[b];
                const double step = c[i + s] - c[i];
                energy += grid->face[direction][i] * step * step;
                flux[grid->extent[direction]] += grid->face[direction][i] * step;
            }
    }
    return energy;
}

EXPORT KERNEL double dot(const float *restrict a, const float *restrict b, int64_t count)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* correction += alpha p, residual -= alpha q */
EXPORT KERNEL void advance(float *restrict correction, float *restrict residual, const float *restrict p, const float *restrict q,
                           float alpha, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        correction[i] += alpha * p[i];
        residual[i] -= alpha * q[i];
    }
}

/* p = z + beta p */
EXPORT KERNEL void turn(float *restrict p, const float *restrict z, float beta, int64_t count)
{
    for (int64_t i = 0; i < count; i++) p[i] = z[i] + beta * p[i];
}

/* c += scale correction on the voxels of this part; ghosts keep the plates' values */
EXPORT KERNEL void add_correction(const Grid *grid, double *restrict c, const float *restrict correction, double scale)
{
    const int64_t nx = grid->extent[2];
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        for (int64_t i = row; i < row + nx; i++) c[i] += scale * correction[i];
    }
}

/* ---- from voxels to the first coarse level ------------------------------------------------------------------------- */

/* The best conductance among the six faces of each voxel. */
EXPORT KERNEL void find_strongest(const Grid *grid, float *restrict strongest)
{
    FACES(grid);
    ROWS(grid) {
        const int64_t row = row_of(grid, z, y);
        for (int64_t i = row; i < row + nx; i++) {
            const float a = gz[i - sz] > gz[i] ? gz[i - sz] : gz[i], b = gy[i - sy] > gy[i] ? gy[i - sy] : gy[i];
            const float c = gx[i - 1] > gx[i] ? gx[i - 1] : gx[i], ab = a > b ? a : b;
            strongest[i] = ab > c ? ab : c;
        }
    }
}

/* Numbers the strongly joined parts of each block of 2 x 2 x 2 voxels: red blocks first, blocks in raster order within a
   colour. With `block` NULL it only counts. counts: [0] red, [1] all. */
EXPORT void number_aggregates(const Grid *grid, const float *strongest, float threshold, uint16_t *block, int32_t *counts)
{
    const int64_t *n = grid->extent;
    int32_t count = 0;
    for (int colour = 0; colour < 2; colour++) {
        for (int64_t bz = 0; bz < (n[0] + 1) / 2; bz++)
            for (int64_t by = 0; by < (n[1] + 1) / 2; by++)
                for (int64_t bx = (bz + by + colour) & 1; bx < (n[2] + 1) / 2; bx += 2) {
                    int64_t at[8];
                    int part[8];
                    for (int k = 0; k < 8; k++) {
                        const int64_t z = 2 * bz + (k >> 2), y = 2 * by + ((k >> 1) & 1), x = 2 * bx + (k & 1);
                        at[k] = z < n[0] && y < n[1] && x < n[2] ? row_of(grid, z, y) + x : -1;
                        part[k] = at[k] >= 0 && strongest[at[k]] > 0 ? k : -1;
                    }
                    for (int axis = 0; axis < 3; axis++)
                        for (int k = 0; k < 8; k++) {
                            const int other = k | (4 >> axis);
                            if (other == k || part[k] < 0 || part[other] < 0 || part[k] == part[other]) continue;
                            const float a = strongest[at[k]], b = strongest[at[other]], g = grid->face[axis][at[k]];
                            if (!(g > 0) || g < threshold * (a > b ? a : b)) continue;
                            const int from = part[k] > part[other] ? part[k] : part[other];
                            const int to = part[k] > part[other] ? part[other] : part[k];
                            for (int m = 0; m < 8; m++)
                                if (part[m] == from) part[m] = to;
                        }
                    int32_t number[8];
                    for (int k = 0; k < 8; k++) {
                        if (part[k] < 0) {
                            if (block && at[k] >= 0) grid->node[at[k]] = -1;
                            continue;
                        }
                        if (part[k] == k) {
                            if (block) block[3 * count] = bz, block[3 * count + 1] = by, block[3 * count + 2] = bx;
                            number[k] = count++;
                        }
                        if (block) grid->node[at[k]] = number[part[k]];
                    }
                }
        if (colour == 0) counts[0] = count;
    }
    counts[1] = count;
}

/* Sums the faces between aggregates. Rows are this part's aggregates in their order; `node` holds global numbers, ghosts
   included, of which this part's begin at `offset`. With column NULL only start is filled (entries per row). */
EXPORT void connect_aggregates(const Grid *grid, int direction, int64_t offset, int64_t rows, const uint16_t *block, int32_t *start,
                               int32_t *column, float *g, float *end, float *inside, const uint8_t *has_end)
{
    enum { MOST = 64 };
    int32_t entries = 0;
    for (int64_t row = 0; row < rows; row++) {
        int32_t found[MOST];
        float sum[MOST];
        int count = 0;
        for (int k = 0; k < 8; k++) {
            int64_t at[3] = {2 * block[3 * row] + (k >> 2), 2 * block[3 * row + 1] + ((k >> 1) & 1), 2 * block[3 * row + 2] + (k & 1)};
            if (at[0] >= grid->extent[0] || at[1] >= grid->extent[1] || at[2] >= grid->extent[2]) continue;
            const int64_t i = row_of(grid, at[0], at[1]) + at[2];
            if (grid->node[i] != offset + row) continue;
            for (int axis = 0; axis < 3; axis++)
                for (int up = 0; up < 2; up++) {
                    const int64_t s = grid->stride[axis], j = up ? i + s : i - s;
                    const float face = grid->face[axis][up ? i : j];
                    if (!(face > 0)) continue;
                    if (axis == direction && has_end[up] && at[axis] == (up ? grid->extent[axis] - 1 : 0)) {
                        if (column) end[row] += face;
                        continue;
                    }
                    const int32_t other = grid->node[j];
                    if (other == offset + row) {
                        if (column) inside[3 * row + axis] += 0.5f * face;
                        continue;
                    }
                    int m = 0;
                    while (m < count && found[m] != other) m++;
                    if (m == count) found[count] = other, sum[count++] = 0;
                    sum[m] += face;
                }
        }
        if (column)
            for (int m = 0; m < count; m++) column[entries + m] = found[m], g[entries + m] = sum[m];
        entries += count;
        start[row + 1] = entries;
    }
}

/* ---- the coarse hierarchy ------------------------------------------------------------------------------------------ */

EXPORT void hierarchy_free(Hierarchy *tree)
{
    if (!tree) return;
    for (int k = 0; k < MOST_LEVELS; k++) level_free(&tree->level[k]);
    free(tree->factor);
    free(tree);
}

static void *copied(const void *source, size_t bytes)
{
    void *target = malloc(bytes + 16);
    return target ? memcpy(target, source, bytes) : NULL;
}

/* Builds all coarse levels from the first one; NULL without memory. */
EXPORT Hierarchy *hierarchy_build(int32_t n, const int32_t *grid, int direction, const int32_t *start, const int32_t *column,
                                  const float *g, const float *end, const float *inside, const uint16_t *block, float threshold)
{
    Hierarchy *tree = calloc(1, sizeof *tree);
    if (!tree) return NULL;
    Level *level = tree->level;
    level->n = n;
    for (int a = 0; a < 3; a++) level->grid[a] = grid[a];
    level->start = copied(start, (n + 1) * sizeof(int32_t));
    level->column = copied(column, start[n] * sizeof(int32_t));
    level->g = copied(g, start[n] * sizeof(float));
    level->end = copied(end, n * sizeof(float));
    level->block = copied(block, 3 * (size_t)n * sizeof(uint16_t));
    tree->count = 1;
    if (!level->start || !level->column || !level->g || !level->end || !level->block || level_finish(level, inside, direction))
        goto failed;
    while (tree->count < MOST_LEVELS && tree->level[tree->count - 1].n > DIRECT) {
        Level *fine = &tree->level[tree->count - 1];
        const int made = coarsen(fine, fine + 1, direction, threshold);
        if (made < 0) goto failed;
        if (!made) {
            level_free(fine + 1);
            break;
        }
        const double cost = fine->start[fine->n] + fine->n, next = fine[1].start[fine[1].n] + fine[1].n;
        fine->twice = next < 0.4 * cost;
        tree->count++;
    }
    if (factorize(tree)) goto failed;
    return tree;
failed:
    hierarchy_free(tree);
    return NULL;
}

/* Writes (nodes, entries) of each level; returns the number of levels. */
EXPORT int32_t hierarchy_sizes(const Hierarchy *tree, int32_t *sizes)
{
    for (int k = 0; k < tree->count; k++) sizes[2 * k] = tree->level[k].n, sizes[2 * k + 1] = tree->level[k].start[tree->level[k].n];
    return tree->count;
}

/* One cycle from zero: x = M b, each with a spare entry at the end. */
EXPORT void hierarchy_cycle(Hierarchy *tree, const float *b, float *x)
{
    Level *first = tree->level;
    memcpy(first->b, b, first->n * sizeof(float));
    cycle(tree, 0, 1);
    memcpy(x, first->x, first->n * sizeof(float));
    x[first->n] = 0;
}
