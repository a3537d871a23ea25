/* From phases to the finest level, and from there to the first graph of aggregates. */
#ifndef CALANDRIA_TRANSPORT_SETUP_H
#define CALANDRIA_TRANSPORT_SETUP_H
#include <string.h>
#include "_grid.h"
#include "_hierarchy.h"

static int64_t entries_of(const Grid *grid)
{
    return 16 + (grid->nz + 2) * grid->plane;
}

static void grid_release(Grid *grid)
{
    if (!grid) return;
    for (int d = 0; d < 6; d++) free(grid->code[d]);
    free((void *)grid->table), free(grid->base), free(grid->part), free(grid);
}

static Grid *grid_made(const int64_t *extent, int has_low, int has_high, const float *table, int count)
{
    Grid *grid = calloc(1, sizeof *grid);
    if (!grid) return NULL;
    grid->nz = extent[0], grid->ny = extent[1], grid->nx = extent[2];
    grid->half = (grid->nx + 1) / 2;
    const int64_t least = grid->half + 2, aligned = (least + 7) / 8 * 8;
    grid->row = 25 * aligned <= 27 * least ? aligned : least; /* aligned rows are a little faster, where they cost little room */
    grid->plane = (grid->ny + 2) * grid->row;
    grid->has_low = has_low, grid->has_high = has_high;
    grid->wide = count > 16;
    float *copy = calloc(count < 16 ? 16 : count, sizeof(float));
    grid->table = copy;
    if (copy) memcpy(copy, table, count * sizeof(float));
    int complete = copy != NULL;
    for (int k = 0; k < (grid->wide ? 6 : 3); k++)
        complete &= (grid->code[k] = ZEROS(uint8_t, entries_of(grid) << grid->wide)) != NULL;
    complete &= (grid->part = ZEROS(uint8_t, entries_of(grid))) != NULL;
    complete &= (grid->base = ROOM(int32_t, (grid->nz + 1) / 2 * ((grid->ny + 1) / 2) * grid->half + 7)) != NULL;
    if (complete) return grid;
    grid_release(grid);
    return NULL;
}

/* Codes of the faces of even voxels, ghosts included, from padded phases (z, y, x); pair[a * width + b] is the code between
   phases a and b. */
static void fill_codes(Grid *grid, const uint8_t *phase, const uint16_t *pair, int width)
{
    const int64_t row_length = grid->nx + 2, plane_length = (grid->ny + 2) * row_length;
    for (int64_t z = -1; z <= grid->nz; z++)
        for (int64_t y = -1; y <= grid->ny; y++) {
            const int64_t row = row_of(grid, z, y), shift = (z + y) & 1;
            const uint8_t *here = phase + (z + 1) * plane_length + (y + 1) * row_length + 1;
            const uint8_t *there[6] = {z >= 0 ? here - plane_length : NULL, z < grid->nz ? here + plane_length : NULL,
                                       y >= 0 ? here - row_length : NULL,   y < grid->ny ? here + row_length : NULL,
                                       here - 1,                            here + 1};
            for (int d = 0; d < 6; d++) {
                if (!there[d]) continue;
                const int64_t least = d == 4 ? 0 : -1, most = d == 5 ? grid->nx - 1 : grid->nx;
                const int64_t first = (least - shift + 1) >> 1, last = (most - shift) >> 1;
                const uint8_t *a = here + shift, *b = there[d] + shift;
                if (grid->wide) {
                    uint16_t *code = (uint16_t *)grid->code[d] + row;
                    for (int64_t k = first; k <= last; k++) code[k] = pair[a[2 * k] * width + b[2 * k]];
                } else {
                    uint8_t *code = (uint8_t *)grid->code[d >> 1] + row;
                    const int shifted = 4 * (d & 1);
                    for (int64_t k = first; k <= last; k++) code[k] |= (uint8_t)(pair[a[2 * k] * width + b[2 * k]] << shifted);
                }
            }
        }
}

#define SPECIAL static inline __attribute__((always_inline))

/* `wide` is a constant wherever this is called in a loop: the compiler makes a copy for each width of code. */
SPECIAL float conductance(const Grid *grid, int direction, int64_t i, int wide)
{
    return grid->table[wide ? ((const uint16_t *)grid->code[direction])[i]
                            : ((const uint8_t *)grid->code[direction >> 1])[i] >> 4 * (direction & 1) & 15];
}

/* Voxel v of a block stands at its corner (v >> 2, v >> 1 & 1, v & 1); these four are even. */
static const int EVEN_CORNERS[4] = {0, 3, 5, 6}, ODD_CORNER[8] = {0, 1, 1, 0, 1, 0, 0, 1};
/* The corners at each side of a block: lower z, upper z, lower y, upper y, lower x, upper x. From there the voxel beyond is one
   plane, one row or one entry away. */
static const int SIDES[6][4] = {{0, 1, 2, 3}, {4, 5, 6, 7}, {0, 1, 4, 5}, {2, 3, 6, 7}, {0, 2, 4, 6}, {1, 3, 5, 7}};

/* partition[mask][v]: the lowest voxel that v is joined to by the in-block faces whose bits are set in mask; bit 3 e + a is the face of
   even corner e along axis a. */
static uint8_t (*partitions(void))[8]
{
    static uint8_t table[4096][8];
    static int filled = 0;
    if (filled) return table;
    for (int mask = 0; mask < 4096; mask++) {
        uint8_t *root = table[mask];
        for (int v = 0; v < 8; v++) root[v] = (uint8_t)v;
        for (int bit = 0; bit < 12; bit++) {
            if (!(mask >> bit & 1)) continue;
            const int one = EVEN_CORNERS[bit / 3], other = one ^ (4 >> bit % 3);
            const uint8_t a = root[one], b = root[other], low = a < b ? a : b;
            for (int v = 0; v < 8; v++)
                if (root[v] == a || root[v] == b) root[v] = low;
        }
    }
    filled = 1;
    return table;
}

static inline int inside(const Grid *grid, int64_t z, int64_t y, int64_t x)
{
    return z >= 0 && y >= 0 && x >= 0 && z < grid->nz && y < grid->ny && x < grid->nx;
}

/* Splits each block of 2 x 2 x 2 voxels into its strongly joined parts and numbers them: red blocks first, blocks in raster order
   within a colour. even and odd hold the strongest conductance of each voxel, and afterwards, as integers, its
   number (-1 where nothing conducts). home is the first block of this part in the whole volume. Returns the count. */
SPECIAL int32_t number_blocks(Grid *grid, float *even, float *odd, const int32_t *home, float threshold, const int wide)
{
    const int64_t bz = (grid->nz + 1) / 2, by = (grid->ny + 1) / 2, bx = grid->half;
    const uint8_t(*partition)[8] = (const uint8_t(*)[8])partitions();
    int32_t count = 0;
    for (int colour = 0; colour < 2; colour++) {
        for (int64_t z = 0; z < bz; z++)
            for (int64_t y = 0; y < by; y++) {
                int32_t *base = base_of(grid, 2 * z, 2 * y);
                int64_t rows[4];
                for (int c = 0; c < 4; c++) rows[c] = row_of(grid, 2 * z + (c >> 1), 2 * y + (c & 1));
                for (int64_t x = (home[0] + home[1] + home[2] + z + y + colour) & 1; x < bx; x += 2) {
                    int mask = 0, bit = 0;
                    for (int e = 0; e < 4; e++) {
                        const int v = EVEN_CORNERS[e];
                        const int64_t i = rows[v >> 1] + x;
                        const float mine = even[i];
                        for (int a = 0; a < 3; a++, bit++) {
                            if (!(mine > 0)) continue;
                            const int up = !(v & (4 >> a)), other = v ^ (4 >> a);
                            const float g = conductance(grid, 2 * a + up, i, wide), theirs = odd[rows[other >> 1] + x];
                            mask |= (g > 0 && g >= threshold * (mine > theirs ? mine : theirs)) << bit;
                        }
                    }
                    const uint8_t *root = partition[mask];
                    uint8_t number[8] = {0};
                    int parts = 0;
                    base[x] = count;
                    for (int v = 0; v < 8; v++) {
                        float *slot = (ODD_CORNER[v] ? odd : even) + rows[v >> 1] + x;
                        int32_t id = -1;
                        if (*slot > 0) {
                            if (root[v] == v) number[v] = (uint8_t)parts++;
                            else number[v] = number[root[v]];
                            id = count + number[v];
                        }
                        memcpy(slot, &id, sizeof id);
                        if (!ODD_CORNER[v]) grid->part[rows[v >> 1] + x] = number[v];
                    }
                    count += parts;
                }
            }
    }
    return grid->nodes = count;
}

static int32_t number_aggregates(Grid *grid, float *even, float *odd, const int32_t *home, float threshold)
{
    return grid->wide ? number_blocks(grid, even, odd, home, threshold, 1) : number_blocks(grid, even, odd, home, threshold, 0);
}

/* Sums the faces between aggregates, whose numbers even and odd hold, ghosts included. home is the first block of this part in
   the whole volume, `halo` the number of aggregates of other parts. 0 without memory. */
SPECIAL int connect_blocks(const Grid *grid, const int32_t *even, const int32_t *odd, const int32_t *home, int32_t halo, Level *level,
                           const int wide)
{
    enum { MOST = 32 };
    const int32_t n = grid->nodes;
    int64_t room = 7 * (int64_t)n + 8 * MOST;
    if (!level_room(level, n, halo, room)) return 0;
    const int64_t bz = (grid->nz + 1) / 2, by = (grid->ny + 1) / 2, bx = grid->half;
    const int64_t step[6] = {-grid->plane, grid->plane, -grid->row, grid->row, -1, 1};
    int64_t entries = 0;
    for (int colour = 0; colour < 2; colour++)
        for (int64_t z = 0; z < bz; z++)
            for (int64_t y = 0; y < by; y++) {
                int64_t rows[4];
                for (int c = 0; c < 4; c++) rows[c] = row_of(grid, 2 * z + (c >> 1), 2 * y + (c & 1));
                const int32_t *base = base_of(grid, 2 * z, 2 * y);
                for (int64_t x = (home[0] + home[1] + home[2] + z + y + colour) & 1; x < bx; x += 2) {
                    int32_t found[8][MOST], id[8];
                    double sum[8][MOST]; /* as in level_connect */
                    int count[8] = {0}, parts = 0;
                    for (int v = 0; v < 8; v++) {
                        id[v] = (ODD_CORNER[v] ? odd : even)[rows[v >> 1] + x];
                        if (id[v] >= 0 && id[v] - base[x] >= parts) parts = id[v] - base[x] + 1;
                    }
                    if (!parts) continue;
                    for (int part = 0; part < parts; part++) {
                        uint16_t *block = level->block + 3 * (base[x] + part);
                        block[0] = (uint16_t)(home[0] + z), block[1] = (uint16_t)(home[1] + y), block[2] = (uint16_t)(home[2] + x);
                    }
                    const int whole = 2 * z + 1 < grid->nz && 2 * y + 1 < grid->ny && 2 * x + 1 < grid->nx;
                    const int plates = (z == 0 && grid->has_low) || (z == bz - 1 && grid->has_high);
                    if (parts == 1 && whole && !plates) { /* the usual case, without a branch per face */
                        float *within = level->inside + 3 * base[x];
                        for (int bit = 0; bit < 12; bit++) {
                            const int axis = bit % 3, v = EVEN_CORNERS[bit / 3];
                            within[axis] += conductance(grid, 2 * axis + !(v & (4 >> axis)), rows[v >> 1] + x, wide);
                        }
                        int simple = 1, many = 0;
                        for (int d = 0; d < 6; d++) {
                            double total = 0;
                            int32_t least = INT32_MAX, most = -1;
                            for (int m = 0; m < 4; m++) {
                                const int v = SIDES[d][m];
                                const int64_t i = rows[v >> 1] + x, j = i + step[d];
                                const float g = ODD_CORNER[v] ? conductance(grid, d ^ 1, j, wide) : conductance(grid, d, i, wide);
                                const int32_t other = (ODD_CORNER[v] ? even : odd)[j], high = g > 0 ? other : -1, low = g > 0 ? other : INT32_MAX;
                                total += g;
                                most = high > most ? high : most;
                                least = low < least ? low : least;
                            }
                            simple &= most < 0 || (most == least && most != base[x]);
                            found[0][many] = most, sum[0][many] = total;
                            many += most >= 0;
                        }
                        for (int a = 0; a < many; a++) /* a periodic extent of 4 has one neighbour on both sides */
                            for (int b = 0; b < a; b++) simple &= found[0][a] != found[0][b];
                        if (simple) {
                            count[0] = many;
                            goto store;
                        }
                        within[0] = within[1] = within[2] = 0;
                    }
                    for (int bit = 0; bit < 12; bit++) { /* faces inside the block */
                        const int axis = bit % 3, v = EVEN_CORNERS[bit / 3], other = v ^ (4 >> axis);
                        const float g = conductance(grid, 2 * axis + !(v & (4 >> axis)), rows[v >> 1] + x, wide);
                        if (!(g > 0) || id[v] < 0 || id[other] < 0) continue; /* nothing, or an end plate */
                        const int a = id[v] - base[x], b = id[other] - base[x];
                        if (a == b) {
                            level->inside[3 * (base[x] + a) + axis] += g;
                            continue;
                        }
                        for (int way = 0; way < 2; way++) {
                            const int part = way ? b : a, there = way ? id[v] : id[other];
                            int m = 0;
                            while (m < count[part] && found[part][m] != there) m++;
                            if (m == count[part]) found[part][m] = there, sum[part][m] = 0, count[part]++;
                            sum[part][m] += g;
                        }
                    }
                    for (int d = 0; d < 6; d++) { /* four faces to the block on each side */
                        const int axis = d >> 1;
                        const int plate = d == 0 ? grid->has_low && z == 0 : d == 1 && grid->has_high && z == bz - 1;
                        const int *corner = SIDES[d == 1 && plate && (grid->nz & 1) ? 0 : d]; /* the last plane may be the lower one */
                        float g[4];
                        double total = 0;
                        int32_t there[4], near = -1;
                        int same = 1;
                        for (int m = 0; m < 4; m++) {
                            const int v = corner[m];
                            g[m] = 0;
                            if (id[v] < 0) continue; /* a solid, or beyond an odd extent */
                            const int64_t i = rows[v >> 1] + x, j = i + step[d];
                            g[m] = ODD_CORNER[v] ? conductance(grid, d ^ 1, j, wide) : conductance(grid, d, i, wide);
                            if (!(g[m] > 0)) continue;
                            there[m] = (ODD_CORNER[v] ? even : odd)[j];
                            total += g[m];
                            same &= near < 0 || near == there[m];
                            near = there[m];
                        }
                        if (!(total > 0)) continue;
                        if (parts == 1 && same && !plate) {
                            if (near == base[x]) { /* a periodic extent of 2 */
                                level->inside[3 * near + axis] += (float)(0.5 * total);
                                continue;
                            }
                            int m = 0;
                            while (m < count[0] && found[0][m] != near) m++;
                            if (m == count[0]) found[0][m] = (int32_t)near, sum[0][m] = 0, count[0]++;
                            sum[0][m] += total;
                            continue;
                        }
                        for (int m = 0; m < 4; m++) {
                            if (!(g[m] > 0)) continue;
                            const int part = id[corner[m]] - base[x];
                            if (plate) {
                                level->end[base[x] + part] += g[m];
                                continue;
                            }
                            if (there[m] == base[x] + part) {
                                level->inside[3 * there[m] + axis] += 0.5f * g[m];
                                continue;
                            }
                            int k = 0;
                            while (k < count[part] && found[part][k] != there[m]) k++;
                            if (k == count[part]) found[part][k] = there[m], sum[part][k] = 0, count[part]++;
                            sum[part][k] += g[m];
                        }
                    }
                store:
                    if (entries > INT32_MAX - 8 * MOST) return 0; /* more ranks are needed */
                    if (entries + 8 * MOST > room) {
                        room += room / 2;
                        Entry *larger = realloc(level->entry, room * sizeof(Entry));
                        if (!larger) return 0;
                        level->entry = larger;
                    }
                    for (int part = 0; part < parts; part++) {
                        level->start[base[x] + part] = (int32_t)entries;
                        for (int m = 0; m < count[part]; m++) level->entry[entries++] = (Entry){found[part][m], (float)sum[part][m]};
                    }
                }
            }
    level->start[n] = (int32_t)entries;
    Entry *smaller = realloc(level->entry, (entries + 1) * sizeof(Entry));
    if (smaller) level->entry = smaller;
    return 1;
}

static int connect_aggregates(const Grid *grid, const int32_t *even, const int32_t *odd, const int32_t *home, int32_t halo, Level *level)
{
    return grid->wide ? connect_blocks(grid, even, odd, home, halo, level, 1) : connect_blocks(grid, even, odd, home, halo, level, 0);
}
#endif
