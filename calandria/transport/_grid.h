/* The finest level: a box of voxels (z along the transport, y, x) with one ghost layer around it, split by colour.

   A voxel is even or odd as z + y + x is. Each colour has arrays of its own, in which row (z, y) holds the entries k = x / 2;
   so a sweep over one colour reads the other in order. Every face joins an even and an odd voxel (an odd periodic extent is
   doubled before it comes here), and the even one holds its six faces as small codes, whose conductances stand in a
   table: lower z, upper z, lower y, upper y, lower x, upper x. Code 0 conducts nothing: solids, insulated sides and padding.
   End plates are ghost voxels at half the distance. Arrays begin and end with eight spare entries, so that eight lanes at a
   time never leave them; the ghost before a row is the last entry of the row before it. */
#ifndef CALANDRIA_TRANSPORT_GRID_H
#define CALANDRIA_TRANSPORT_GRID_H
#include <stdint.h>

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));
typedef double doubles __attribute__((vector_size(64)));
typedef int64_t longs __attribute__((vector_size(64)));
typedef float floats_unaligned __attribute__((vector_size(32), aligned(4), may_alias));
typedef double doubles_unaligned __attribute__((vector_size(64), aligned(8), may_alias));

typedef struct {
    int64_t nz, ny, nx;        /* voxels of this part */
    int64_t half, row, plane;  /* entries of a row, and from row to row and plane to plane */
    int32_t has_low, has_high; /* whether this part touches the end plates */
    int32_t wide;              /* whether codes have 16 bits */
    int32_t nodes;             /* aggregates of this part */
    void *code[6];             /* per axis, 4 bits for each of its two faces, lower ones first; per face if wide */
    const float *table;  /* conductance of each code; at least 16 */
    int32_t *base;       /* first aggregate of each block of 2 x 2 x 2 voxels */
    uint8_t *part;       /* which aggregate of its block an even voxel belongs to */
} Grid;

static inline int64_t row_of(const Grid *grid, int64_t z, int64_t y)
{
    return 8 + (z + 1) * grid->plane + (y + 1) * grid->row;
}

static inline int32_t *base_of(const Grid *grid, int64_t z, int64_t y)
{
    return grid->base + ((z >> 1) * ((grid->ny + 1) >> 1) + (y >> 1)) * grid->half;
}
#endif
