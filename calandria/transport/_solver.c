/* Kernels of the voxel diffusion solver: percolation, the finest level, and the coarse hierarchy's interface. */
#include "extension.h"
#include "_grid.h"
#include "_setup.h"
#include "_hierarchy.h"
#include "_percolation.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_X86
#endif
EXTENSION_MODULE(_solver)

#define ONES ((floats){1, 1, 1, 1, 1, 1, 1, 1})
#define LANES ((ints){0, 1, 2, 3, 4, 5, 6, 7})
#define ALWAYS static inline __attribute__((always_inline))

/* ---- the finest level, per instruction set ------------------------------------------------------------------------------ */

ALWAYS floats narrow_faces(const Grid *grid, int d, int64_t i)
{
    const uint8_t *code = (const uint8_t *)grid->code[d >> 1] + i;
    const float *t = grid->table;
#define FACE(k) t[code[k] >> 4 * (d & 1) & 15]
    return (floats){FACE(0), FACE(1), FACE(2), FACE(3), FACE(4), FACE(5), FACE(6), FACE(7)};
}

ALWAYS floats wide_faces(const Grid *grid, int d, int64_t i)
{
    const uint16_t *code = (const uint16_t *)grid->code[d] + i;
    const float *t = grid->table;
    return (floats){t[code[0]], t[code[1]], t[code[2]], t[code[3]], t[code[4]], t[code[5]], t[code[6]], t[code[7]]};
}

#define NAME(f) f##_plain
#define LOOKUP(grid, d, i) narrow_faces(grid, d, i)
#include "_fine.h"

#define NAME(f) f##_wide
#define LOOKUP(grid, d, i) wide_faces(grid, d, i)
#include "_fine.h"

#ifdef HAVE_X86
#pragma GCC push_options
#pragma GCC target("avx2,fma")
ALWAYS floats faces_avx2(const Grid *grid, int d, int64_t i)
{
    const __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)((const uint8_t *)grid->code[d >> 1] + i)));
    const __m256i code = d & 1 ? _mm256_srli_epi32(both, 4) : both; /* the bits above the lowest four do not matter below */
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(grid->table), code);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(grid->table + 8), code);
    return (floats)_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)));
}
#define NAME(f) f##_avx2
#define LOOKUP(grid, d, i) faces_avx2(grid, d, i)
#include "_fine.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
ALWAYS floats faces_avx512(const Grid *grid, int d, int64_t i)
{
    const __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)((const uint8_t *)grid->code[d >> 1] + i)));
    const __m256i code = d & 1 ? _mm256_srli_epi32(both, 4) : both; /* as above */
    return (floats)_mm256_permutex2var_ps(_mm256_loadu_ps(grid->table), code, _mm256_loadu_ps(grid->table + 8));
}
#define NAME(f) f##_avx512
#define LOOKUP(grid, d, i) faces_avx512(grid, d, i)
#include "_fine.h"
#pragma GCC pop_options
#endif

/* The best copy that the processor runs; use_kernels(1, 2, 3) holds to the plain, AVX2 or AVX-512 one, 0 to the best again. */
static int chosen = 0;

static int best_kernels(void)
{
#ifdef HAVE_X86
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) return 3;
    if (avx2) return 2;
#endif
    return 1;
}

EXPORT int use_kernels(int which)
{
    if (which < 0 || which > best_kernels()) return 0;
    chosen = which;
    return 1;
}

static const Kernels *of(const Grid *grid)
{
    if (grid->wide) return &kernels_wide;
#ifdef HAVE_X86
    switch (chosen ? chosen : best_kernels()) {
    case 3: return &kernels_avx512;
    case 2: return &kernels_avx2;
    }
#endif
    return &kernels_plain;
}

EXPORT void first_odd(const Grid *grid, const float *r, float *z_odd) { of(grid)->first_odd(grid, r, z_odd); }
EXPORT void restrict_even(const Grid *grid, const float *z_odd, float *coarse) { of(grid)->restrict_even(grid, z_odd, coarse); }
EXPORT void prolong_even(const Grid *grid, const float *coarse, float *z_even) { of(grid)->prolong_even(grid, coarse, z_even); }
EXPORT double relax_odd(const Grid *grid, const float *r, const float *z_even, float *z_odd)
{
    return of(grid)->relax_odd(grid, r, z_even, z_odd);
}
EXPORT void relax_even(const Grid *grid, const float *z_odd, float *z_even) { of(grid)->relax_even(grid, z_odd, z_even); }
EXPORT double turn(const Grid *grid, const float *z_odd, const float *z_even, float *p, float *q, float beta)
{
    return of(grid)->turn(grid, z_odd, z_even, p, q, beta);
}
EXPORT void advance(const Grid *grid, float alpha, double scale, const float *p, const float *q, double *c, float *r, float *z_odd)
{
    of(grid)->advance(grid, alpha, scale, p, q, c, r, z_odd);
}
EXPORT void balance_even(const Grid *grid, const double *c_odd, double *c_even) { of(grid)->balance_even(grid, c_odd, c_even); }
EXPORT double residual_odd(const Grid *grid, const double *c_odd, const double *c_even, double scale, float *r)
{
    return of(grid)->residual_odd(grid, c_odd, c_even, scale, r);
}
EXPORT double energy_and_flux(const Grid *grid, const double *c_odd, const double *c_even, double *flux)
{
    return of(grid)->energy_and_flux(grid, c_odd, c_even, flux);
}

EXPORT Grid *fine_build(const int64_t *extent, int has_low, int has_high, const uint8_t *phase, const uint16_t *pair, int width,
                        const float *table, int count)
{
    Grid *grid = grid_made(extent, has_low, has_high, table, count);
    if (grid) fill_codes(grid, phase, pair, width);
    return grid;
}

EXPORT void fine_layout(const Grid *grid, int64_t *layout)
{
    layout[0] = grid->half, layout[1] = grid->row, layout[2] = grid->plane, layout[3] = entries_of(grid);
}

EXPORT int32_t fine_number(Grid *grid, float *even, float *odd, const int32_t *home, float threshold)
{
    of(grid)->strongest(grid, even, odd);
    return number_aggregates(grid, even, odd, home, threshold);
}

EXPORT Level *fine_connect(const Grid *grid, const int32_t *even, const int32_t *odd, const int32_t *home, int32_t halo)
{
    Level *level = calloc(1, sizeof *level);
    if (level && connect_aggregates(grid, even, odd, home, halo, level)) return level;
    if (level) level_clear(level);
    free(level);
    return NULL;
}

EXPORT void memory_trim(void) { trim_memory(); }
EXPORT void fine_free(Grid *grid) { grid_release(grid); }

/* Copies the ghosts across periodic sides of an array of one colour. */
#define WRAP(kind)                                                                                                                  \
    for (int64_t z = -1; z <= grid->nz; z++) {                                                                                      \
        if (along_x)                                                                                                                \
            for (int64_t y = 0; y < grid->ny; y++) {                                                                                \
                kind *row = (kind *)values + row_of(grid, z, y);                                                                    \
                row[-1] = row[grid->half - 1], row[grid->half] = row[0];                                                            \
            }                                                                                                                       \
        if (along_y) {                                                                                                              \
            kind *first = (kind *)values + row_of(grid, z, -1), *last = (kind *)values + row_of(grid, z, grid->ny);                 \
            memcpy(first - 1, (kind *)values + row_of(grid, z, grid->ny - 1) - 1, grid->row * sizeof(kind));                        \
            memcpy(last - 1, (kind *)values + row_of(grid, z, 0) - 1, grid->row * sizeof(kind));                                    \
        }                                                                                                                           \
    }
EXPORT void wrap_sides(const Grid *grid, void *values, int size, int along_y, int along_x)
{
    if (size == 8) {
        WRAP(double)
    } else {
        WRAP(float)
    }
}

/* phase = table[labels]; seen[label] becomes 1 for each label that occurs. */
EXPORT void look_up(const uint8_t *restrict labels, const uint8_t *table, uint8_t *restrict phase, uint8_t *restrict seen, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        phase[i] = table[labels[i]];
        seen[labels[i]] = 1;
    }
}

/* ---- percolation ---------------------------------------------------------------------------------------------------- */

EXPORT Runs *percolation_find(const uint8_t *phase, const int64_t *extent) { return runs_found(phase, extent); }
EXPORT void percolation_restart(Runs *runs) { memcpy(runs->parent, runs->within, runs->runs * sizeof(int32_t)); }
EXPORT void percolation_wrap(Runs *runs, int axis) { runs_wrap(runs, axis); }
EXPORT void percolation_side(Runs *runs, int axis, int last, int32_t *root) { runs_side(runs, axis, last, root); }
EXPORT int64_t percolation_count(const Runs *runs) { return runs->runs; }
EXPORT int64_t percolation_keep(Runs *runs, const uint8_t *marked, uint8_t *phase) { return runs_keep(runs, marked, phase); }
EXPORT void percolation_join(int64_t n, int64_t count, const int32_t *pairs, int32_t *root) { pairs_joined(n, count, pairs, root); }
EXPORT void percolation_free(Runs *runs) { runs_release(runs); }

/* ---- one coarse level of a part of a volume --------------------------------------------------------------------------- */

EXPORT Level *level_new(void) { return calloc(1, sizeof(Level)); }
EXPORT void level_free(Level *level)
{
    if (level) level_clear(level);
    free(level);
}
EXPORT int level_reserve(Level *level, int32_t n, int32_t halo, int64_t entries) { return level_room(level, n, halo, entries); }
EXPORT int level_ready(Level *level) { return level_finish(level); }
EXPORT int32_t level_parts(const Level *level, float threshold, int32_t *parent, uint16_t *block)
{
    return level_aggregate(level, threshold, parent, block);
}
EXPORT int32_t level_pairs(const Level *level, float least, int32_t *parent, uint16_t *block)
{
    return level_match(level, least, parent, block);
}
EXPORT int level_join(const Level *fine, const int32_t *parent, const uint16_t *block, int32_t n, int32_t halo, Level *coarse)
{
    return level_connect(fine, parent, block, n, halo, coarse);
}
EXPORT void level_sweep(Level *level, int colour, int forward, int zero)
{
    const int32_t from = colour ? level->red : 0, to = colour ? level->n : level->red;
    if (forward) level_forward(level, from, to, zero);
    else level_backward(level, from, to);
}
EXPORT void level_down(const Level *level, const int32_t *parent, float *b, int zero) { level_restrict(level, parent, b, zero); }
EXPORT void level_up(Level *level, const int32_t *parent, const float *coarse)
{
    for (int32_t i = 0; i < level->n + level->halo; i++) level->x[i] += coarse[parent[i]];
}

/* ---- the coarse hierarchy ------------------------------------------------------------------------------------------ */

EXPORT void hierarchy_free(Hierarchy *tree)
{
    if (!tree) return;
    for (int k = 0; k < MOST_LEVELS; k++) level_clear(&tree->level[k]);
    free(tree->factor);
    free(tree);
}

/* Builds all levels below the first one, which it takes over; NULL without memory. */
EXPORT Hierarchy *hierarchy_build(Level *first, float threshold)
{
    Hierarchy *tree = calloc(1, sizeof *tree);
    if (!tree) return NULL;
    tree->level[0] = *first;
    free(first);
    tree->count = 1;
    if (!level_finish(tree->level)) goto failed;
    while (tree->count < MOST_LEVELS && tree->level[tree->count - 1].n > DIRECT) {
        Level *fine = &tree->level[tree->count - 1];
        const int made = coarsen(fine, fine + 1, threshold);
        if (made < 0) goto failed;
        if (!made) {
            level_clear(fine + 1);
            break;
        }
        tree->count++;
    }
    if (!factorize(tree)) goto failed;
    for (int k = 0; k < tree->count; k++) free(tree->level[k].block), tree->level[k].block = NULL;
    return tree;
failed:
    hierarchy_free(tree);
    return NULL;
}

EXPORT int32_t hierarchy_sizes(const Hierarchy *tree, int32_t *sizes)
{
    for (int k = 0; k < tree->count; k++) sizes[2 * k] = tree->level[k].n, sizes[2 * k + 1] = tree->level[k].start[tree->level[k].n];
    return tree->count;
}

/* The right-hand side and the solution of the first level; the latter has a spare entry at the end. */
EXPORT float *hierarchy_b(Hierarchy *tree) { return tree->level[0].b; }
EXPORT float *hierarchy_x(Hierarchy *tree) { return tree->level[0].x; }

/* Cycles from zero: x = M b. */
EXPORT void hierarchy_cycle(Hierarchy *tree, int times)
{
    for (int k = 0; k < times; k++) cycle(tree, 0, k == 0);
}
