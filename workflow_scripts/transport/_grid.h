/* The finest level: a padded box of voxels (z, y, x), one ghost layer around it.

   face[a][i] is the conductance between voxel i and its upper neighbour along axis a. It is 0 beside solids and at
   insulated sides, and 2 D at an end plate, so the row sum is the diagonal and every boundary is only a ghost value. */
#ifndef CALANDRIA_TRANSPORT_GRID_H
#define CALANDRIA_TRANSPORT_GRID_H
#include <stdint.h>

typedef struct {
    int64_t extent[3];
    int64_t stride[3];
    float *face[3];
    int32_t *node; /* the aggregate of each voxel; solids point at one spare entry behind the last */
} Grid;

static inline int64_t row_of(const Grid *grid, int64_t z, int64_t y)
{
    return (z + 1) * grid->stride[0] + (y + 1) * grid->stride[1] + 1;
}

#define FACES(grid)                                                                                                    \
    const float *restrict gz = (grid)->face[0], *restrict gy = (grid)->face[1], *restrict gx = (grid)->face[2];         \
    const int64_t sz = (grid)->stride[0], sy = (grid)->stride[1], nx = (grid)->extent[2]

#define DIAGONAL(i) (gz[(i) - sz] + gz[i] + gy[(i) - sy] + gy[i] + gx[(i) - 1] + gx[i])
/* The flow into voxel i as differences: they keep the small net flow of a good conductor's voxel, which a diagonal times a
   value less the neighbours' sum would lose to rounding at a contrast of 1e-6. */
#define INFLOW(v, i)                                                                                                   \
    (gz[(i) - sz] * (v[(i) - sz] - v[i]) + gz[i] * (v[(i) + sz] - v[i]) + gy[(i) - sy] * (v[(i) - sy] - v[i]) +         \
     gy[i] * (v[(i) + sy] - v[i]) + gx[(i) - 1] * (v[(i) - 1] - v[i]) + gx[i] * (v[(i) + 1] - v[i]))

#endif
