/* Which voxels are joined: runs of conducting voxels along x, united where runs of neighbouring rows overlap. */
#ifndef CALANDRIA_TRANSPORT_PERCOLATION_H
#define CALANDRIA_TRANSPORT_PERCOLATION_H
#include <stdint.h>
#include "_memory.h"
#include <string.h>

typedef struct {
    int64_t nz, ny, nx, runs;
    int64_t *first; /* first run of each row */
    int32_t *from, *to, *parent, *within; /* within: parents before any sides were united */
} Runs;

static inline int32_t root_of(int32_t *parent, int32_t i)
{
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

static inline void unite(int32_t *parent, int32_t a, int32_t b)
{
    a = root_of(parent, a), b = root_of(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

static void runs_release(Runs *runs)
{
    if (!runs) return;
    free(runs->first), free(runs->from), free(runs->to), free(runs->parent), free(runs->within), free(runs);
}

static void unite_rows(Runs *runs, int64_t one, int64_t other)
{
    int64_t a = runs->first[one], b = runs->first[other];
    const int64_t last_a = runs->first[one + 1], last_b = runs->first[other + 1];
    while (a < last_a && b < last_b) {
        if (runs->from[a] < runs->to[b] && runs->from[b] < runs->to[a]) unite(runs->parent, (int32_t)a, (int32_t)b);
        if (runs->to[a] < runs->to[b]) a++;
        else b++;
    }
}

/* Runs of voxels that are not 0, united within the box; NULL without memory or with more runs than 31 bits can number. */
static Runs *runs_found(const uint8_t *phase, const int64_t *extent)
{
    Runs *runs = calloc(1, sizeof *runs);
    if (!runs) return NULL;
    const int64_t nz = runs->nz = extent[0], ny = runs->ny = extent[1], nx = runs->nx = extent[2], rows = nz * ny;
    int64_t room = rows * 4 + nx + 64, count = 0;
    runs->first = ROOM(int64_t, rows);
    runs->from = ROOM(int32_t, room), runs->to = ROOM(int32_t, room);
    if (!runs->first || !runs->from || !runs->to) goto failed;
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *at = phase + row * nx;
        runs->first[row] = count;
        if (count + nx / 2 + 1 > room) {
            room += room / 2 + nx;
            int32_t *from = realloc(runs->from, room * sizeof(int32_t));
            if (from) runs->from = from;
            int32_t *to = realloc(runs->to, room * sizeof(int32_t));
            if (to) runs->to = to;
            if (!from || !to) goto failed;
        }
        for (int64_t x = 0; x < nx;) {
            while (x < nx && !at[x]) x++;
            if (x == nx) break;
            runs->from[count] = (int32_t)x;
            while (x < nx && at[x]) x++;
            runs->to[count++] = (int32_t)x;
        }
    }
    runs->first[rows] = runs->runs = count;
    if (count >= INT32_MAX) goto failed;
    runs->parent = ROOM(int32_t, count);
    runs->within = ROOM(int32_t, count);
    if (!runs->parent || !runs->within) goto failed;
    for (int64_t k = 0; k < count; k++) runs->parent[k] = (int32_t)k;
    for (int64_t z = 0; z < nz; z++)
        for (int64_t y = 0; y < ny; y++) {
            if (y) unite_rows(runs, z * ny + y, z * ny + y - 1);
            if (z) unite_rows(runs, z * ny + y, (z - 1) * ny + y);
        }
    memcpy(runs->within, runs->parent, count * sizeof(int32_t));
    return runs;
failed:
    runs_release(runs);
    return NULL;
}

/* Unites the runs of opposite sides of the box along an axis. */
static void runs_wrap(Runs *runs, int axis)
{
    const int64_t nz = runs->nz, ny = runs->ny;
    if (axis == 0)
        for (int64_t y = 0; y < ny; y++) unite_rows(runs, y, (nz - 1) * ny + y);
    else if (axis == 1)
        for (int64_t z = 0; z < nz; z++) unite_rows(runs, z * ny, z * ny + ny - 1);
    else
        for (int64_t row = 0; row < nz * ny; row++) {
            const int64_t a = runs->first[row], b = runs->first[row + 1] - 1;
            if (b > a && runs->from[a] == 0 && runs->to[b] == runs->nx) unite(runs->parent, (int32_t)a, (int32_t)b);
        }
}

/* root[...]: the root of each voxel of the first or last plane along an axis, -1 where nothing conducts. */
static void runs_side(Runs *runs, int axis, int last, int32_t *root)
{
    const int64_t nz = runs->nz, ny = runs->ny, nx = runs->nx;
    if (axis == 2) {
        for (int64_t row = 0; row < nz * ny; row++) {
            const int64_t a = runs->first[row], b = runs->first[row + 1] - 1;
            const int64_t k = last ? b : a;
            const int touches = b >= a && (last ? runs->to[k] == nx : runs->from[k] == 0);
            root[row] = touches ? root_of(runs->parent, (int32_t)k) : -1;
        }
        return;
    }
    const int64_t many = axis == 0 ? ny : nz;
    for (int64_t m = 0; m < many; m++) {
        const int64_t row = axis == 0 ? (last ? (nz - 1) * ny : 0) + m : m * ny + (last ? ny - 1 : 0);
        for (int64_t x = 0; x < nx; x++) root[m * nx + x] = -1;
        for (int64_t k = runs->first[row]; k < runs->first[row + 1]; k++) {
            const int32_t found = root_of(runs->parent, (int32_t)k);
            for (int64_t x = runs->from[k]; x < runs->to[k]; x++) root[m * nx + x] = found;
        }
    }
}

/* root[k]: the lowest number among those that the pairs join to k. */
static void pairs_joined(int64_t n, int64_t count, const int32_t *pairs, int32_t *root)
{
    for (int64_t k = 0; k < n; k++) root[k] = (int32_t)k;
    for (int64_t k = 0; k < count; k++) unite(root, pairs[2 * k], pairs[2 * k + 1]);
    for (int64_t k = 0; k < n; k++) root[k] = root_of(root, (int32_t)k);
}

/* Clears the voxels whose root is not marked; returns how many conducting ones stay. */
static int64_t runs_keep(Runs *runs, const uint8_t *marked, uint8_t *phase)
{
    int64_t left = 0;
    for (int64_t row = 0; row < runs->nz * runs->ny; row++)
        for (int64_t k = runs->first[row]; k < runs->first[row + 1]; k++) {
            const int64_t length = runs->to[k] - runs->from[k];
            if (marked[root_of(runs->parent, (int32_t)k)]) left += length;
            else memset(phase + row * runs->nx + runs->from[k], 0, length);
        }
    return left;
}
#endif
