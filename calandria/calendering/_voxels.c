/* Paints spheres into a labelled grid: per column of voxels one run along z, in a buffer where z is contiguous. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "extension.h"

EXTENSION_MODULE(_voxels)

#define TILE 32

static int64_t wrapped(int64_t index, int64_t size) {
    index %= size;
    return index < 0 ? index + size : index;
}

/* Spheres (centres and radii in voxels, the centre of voxel 0 at 0) in the order given, each in its own code.
   columns: (ny, nx, height), zeroed by the caller. A voxel is painted where dx*dx + dy*dy + dz*dz <= r*r. */
EXPORT void paint_columns(uint8_t *columns, int64_t height, int64_t ny, int64_t nx, int y_wraps, int x_wraps, int64_t n,
                          const double *x, const double *y, const double *z, const double *radius, const uint8_t *code) {
    for (int64_t s = 0; s < n; s++) {
        const double r = radius[s], r2 = r * r;
        int64_t j0 = (int64_t)ceil(y[s] - r), j1 = (int64_t)floor(y[s] + r);
        int64_t i0 = (int64_t)ceil(x[s] - r), i1 = (int64_t)floor(x[s] + r);
        if (!y_wraps) {
            j0 = j0 < 0 ? 0 : j0;
            j1 = j1 >= ny ? ny - 1 : j1;
        }
        if (!x_wraps) {
            i0 = i0 < 0 ? 0 : i0;
            i1 = i1 >= nx ? nx - 1 : i1;
        }
        for (int64_t j = j0; j <= j1; j++) {
            const double dy = (double)j - y[s];
            uint8_t *row = columns + (y_wraps ? wrapped(j, ny) : j) * nx * height;
            int64_t slot = x_wraps ? wrapped(i0, nx) : i0;
            for (int64_t i = i0; i <= i1; i++, slot++) {
                if (slot == nx)
                    slot = 0;
                const double dx = (double)i - x[s], flat = dx * dx + dy * dy;
                if (flat > r2)
                    continue;
                const double half = sqrt(r2 - flat);
                int64_t k0 = (int64_t)ceil(z[s] - half), k1 = (int64_t)floor(z[s] + half);
#define INSIDE(k) (flat + ((double)(k) - z[s]) * ((double)(k) - z[s]) <= r2)
                /* the root is rounded; the rule itself decides about the voxels at both ends */
                if (INSIDE(k0 - 1))
                    k0--;
                else if (!INSIDE(k0))
                    k0++;
                if (INSIDE(k1 + 1))
                    k1++;
                else if (!INSIDE(k1))
                    k1--;
                k0 = k0 < 0 ? 0 : k0;
                k1 = k1 >= height ? height - 1 : k1;
                if (k0 <= k1)
                    memset(row + slot * height + k0, code[s], (size_t)(k1 - k0 + 1));
            }
        }
    }
}

/* columns (ny * nx, height) to labels (nz, ny * nx); slices from `surface` on become `outside`.
   counts[code], codes 0..4: voxels of the columns below the surface; counts[5 + code]: above it. */
EXPORT void stand_up(const uint8_t *columns, int64_t height, int64_t n_columns, uint8_t *labels, int64_t nz, int64_t surface,
                     uint8_t outside, int64_t *counts) {
    const int64_t top = surface < nz ? surface : nz;
    memset(counts, 0, 10 * sizeof *counts);
    for (int64_t c = 0; c < n_columns; c++) {
        const uint8_t *column = columns + c * height;
        int64_t am = 0, cbd = 0, am_above = 0, cbd_above = 0;
        for (int64_t k = 0; k < top; k++) {
            cbd += column[k] == 1;
            am += column[k] == 2;
        }
        for (int64_t k = top; k < height; k++) {
            cbd_above += column[k] == 1;
            am_above += column[k] == 2;
        }
        counts[1] += cbd;
        counts[2] += am;
        counts[6] += cbd_above;
        counts[7] += am_above;
    }
    counts[0] = n_columns * top - counts[1] - counts[2];
    for (int64_t c0 = 0; c0 < n_columns; c0 += TILE)
        for (int64_t k0 = 0; k0 < top; k0 += TILE) {
            const int64_t c1 = c0 + TILE < n_columns ? c0 + TILE : n_columns, k1 = k0 + TILE < top ? k0 + TILE : top;
            for (int64_t k = k0; k < k1; k++)
                for (int64_t c = c0; c < c1; c++)
                    labels[k * n_columns + c] = columns[c * height + k];
        }
    if (top < nz)
        memset(labels + top * n_columns, outside, (size_t)((nz - top) * n_columns));
}

#define BINS 1024
#define FOUND 255

/* Pore voxels of the slices below `top` whose centres are at most `band` away from the surface of the nearest of n spheres: their
   indices in columns go to `found`, in no order, their distances (voxels) to `nearest` (as large as columns; nothing is written
   elsewhere). Returns how many there are. Distances are sqrt(dx*dx + dy*dy + dz*dz) - r, of the nearest image at sides that wrap. */
EXPORT int64_t pores_near(uint8_t *columns, int64_t height, int64_t ny, int64_t nx, int y_wraps, int x_wraps, int64_t n,
                          const double *x, const double *y, const double *z, const double *radius, int64_t top, double band,
                          double *nearest, int64_t *found) {
    int64_t count = 0;
    for (int64_t s = 0; s < n; s++) {
        /* the ranges are a little wider than the band, so that rounding loses none; the distance itself decides */
        const double r = radius[s], reach = (r + band) * (1 + 1e-9) + 1e-9, reach2 = reach * reach;
        int64_t j0 = (int64_t)ceil(y[s] - reach), j1 = (int64_t)floor(y[s] + reach);
        int64_t i0 = (int64_t)ceil(x[s] - reach), i1 = (int64_t)floor(x[s] + reach);
        if (y_wraps) {
            const int64_t first = (int64_t)ceil(y[s] - 0.5 * (double)ny);
            j0 = j0 < first ? first : j0;
            j1 = j1 > first + ny - 1 ? first + ny - 1 : j1;
        } else {
            j0 = j0 < 0 ? 0 : j0;
            j1 = j1 >= ny ? ny - 1 : j1;
        }
        if (x_wraps) {
            const int64_t first = (int64_t)ceil(x[s] - 0.5 * (double)nx);
            i0 = i0 < first ? first : i0;
            i1 = i1 > first + nx - 1 ? first + nx - 1 : i1;
        } else {
            i0 = i0 < 0 ? 0 : i0;
            i1 = i1 >= nx ? nx - 1 : i1;
        }
        for (int64_t j = j0; j <= j1; j++) {
            const double dy = (double)j - y[s];
            const int64_t row = (y_wraps ? wrapped(j, ny) : j) * nx;
            int64_t slot = x_wraps ? wrapped(i0, nx) : i0;
            for (int64_t i = i0; i <= i1; i++, slot++) {
                if (slot == nx)
                    slot = 0;
                const double dx = (double)i - x[s], flat = dx * dx + dy * dy;
                if (flat > reach2)
                    continue;
                const double half = sqrt(reach2 - flat);
                int64_t k0 = (int64_t)(z[s] - half), k1 = (int64_t)(z[s] + half);
                k0 = k0 < 0 ? 0 : k0;
                k1 = k1 >= top ? top - 1 : k1;
                uint8_t *column = columns + (row + slot) * height;
                double *to = nearest + (row + slot) * height;
                for (int64_t k = k0; k <= k1; k++) {
                    if (column[k] && column[k] != FOUND)
                        continue;
                    const double dz = (double)k - z[s], d = sqrt(flat + dz * dz) - r;
                    if (d > band || (column[k] && d >= to[k]))
                        continue;
                    to[k] = d;
                    if (!column[k]) {
                        column[k] = FOUND;
                        found[count++] = (row + slot) * height + k;
                    }
                }
            }
        }
    }
    for (int64_t f = 0; f < count; f++)
        columns[found[f]] = 0;
    return count;
}

/* Paints `wanted` of the pore voxels of `pores_near` in `code`, from the nearest on, as far as bins of distance tell them apart.
   Those of the bin that is not wanted as a whole are left, and moved to the front of `found`; returns how many they are.
   *wanted: how many of them remain to be painted. */
EXPORT int64_t paint_nearest(uint8_t *columns, int64_t height, int64_t n_columns, uint8_t *labels, uint8_t code, double band,
                             const double *nearest, int64_t *found, int64_t count, int64_t *wanted) {
    const double bins = (BINS - 1) / band;
    int64_t members[BINS] = {0}, last = 0, left = 0;
    for (int64_t f = 0; f < count; f++)
        members[(int64_t)(nearest[found[f]] * bins)]++;
    while (last < BINS && members[last] <= *wanted)
        *wanted -= members[last++];
    for (int64_t f = 0; f < count; f++) {
        const int64_t v = found[f], bin = (int64_t)(nearest[v] * bins);
        if (bin < last) {
            columns[v] = code;
            labels[v % height * n_columns + v / height] = code;
        } else if (bin == last)
            found[left++] = v;
    }
    return left;
}
