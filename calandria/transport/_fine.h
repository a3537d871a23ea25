/* Kernels of the finest level, compiled once per instruction set: NAME(f) gives each copy its name, LOOKUP(grid, d, i)
   the conductances of eight faces. See _grid.h for the layout. */

#ifndef CALANDRIA_TRANSPORT_FINE_H
#define CALANDRIA_TRANSPORT_FINE_H
#define V_LOAD(p) (*(const floats_unaligned *)(p))
#define V_STORE(p, v) (*(floats_unaligned *)(p) = (v))
#define D_LOAD(p) (*(const doubles_unaligned *)(p))
#define D_STORE(p, v) (*(doubles_unaligned *)(p) = (v))
#define WIDE(v) __builtin_convertvector(v, doubles)
#define NARROW(v) __builtin_convertvector(v, floats)
/* Stores eight lanes from entry k of a row on, or as many as the row has left: behind it the next one begins. */
#define STORE(store, kind, p, v)                                                                                        \
    do {                                                                                                                \
        if (k + 8 <= grid->half) {                                                                                      \
            store((p) + i, v);                                                                                          \
        } else {                                                                                                        \
            kind lanes[8];                                                                                              \
            store(lanes, v);                                                                                            \
            for (int64_t m = 0; m < grid->half - k; m++) (p)[i + m] = lanes[m];                                         \
        }                                                                                                               \
    } while (0)
#define PUT(p, v) STORE(V_STORE, float, p, v)
#define D_PUT(p, v) STORE(D_STORE, double, p, v)
#define KEEP(v, mask) ((floats)((ints)(v) & (mask)))
#define QUOTIENT(a, d) ((floats)((ints)((a) / ((d) + (floats)((ints)((d) == 0) & (ints)ONES))) & ((d) != 0)))

#define ROWS_OF(grid)                                                                                                  \
    for (int64_t z = 0; z < (grid)->nz; z++)                                                                           \
        for (int64_t y = 0; y < (grid)->ny; y++)
#define VECTORS_OF(grid) for (int64_t k = 0; k < (grid)->half; k += 8)
#define MASK_AT(grid, k) (LANES < (ints){0} + (int32_t)((grid)->half - (k)))

/* Conductances around eight even voxels at i, and around eight odd ones (whose faces the even neighbours hold). */
#define EVEN_FACES(grid)                                                                                               \
    const floats g0 = LOOKUP(grid, 0, i), g1 = LOOKUP(grid, 1, i), g2 = LOOKUP(grid, 2, i), g3 = LOOKUP(grid, 3, i),    \
                 g4 = LOOKUP(grid, 4, i), g5 = LOOKUP(grid, 5, i)
#define ODD_FACES(grid)                                                                                                \
    const floats g0 = LOOKUP(grid, 1, i - sz), g1 = LOOKUP(grid, 0, i + sz), g2 = LOOKUP(grid, 3, i - sy),              \
                 g3 = LOOKUP(grid, 2, i + sy), g4 = LOOKUP(grid, 5, i - left), g5 = LOOKUP(grid, 4, i + right)
#define STRIDES(grid) const int64_t sz = (grid)->plane, sy = (grid)->row
/* Along x the neighbours of entry k of one colour are k and k - 1, or k and k + 1, of the other. */
#define EVEN_ROW(grid) const int64_t row = row_of(grid, z, y), shift = (z + y) & 1, left = 1 - shift, right = shift
#define ODD_ROW(grid) const int64_t row = row_of(grid, z, y), shift = (z + y) & 1, left = shift, right = 1 - shift
#define SUM_FACES (((g0 + g1) + (g2 + g3)) + (g4 + g5))
#define FLOW_IN(v)                                                                                                     \
    (((g0 * V_LOAD(v + i - sz) + g1 * V_LOAD(v + i + sz)) + (g2 * V_LOAD(v + i - sy) + g3 * V_LOAD(v + i + sy))) +      \
     (g4 * V_LOAD(v + i - left) + g5 * V_LOAD(v + i + right)))
/* As differences: they keep the small net flow of a good conductor's voxel, which a diagonal times a value less the
   neighbours' sum would lose to rounding at a contrast of 1e-6. */
#define NET_IN(v, here)                                                                                                \
    (((g0 * (V_LOAD(v + i - sz) - here) + g1 * (V_LOAD(v + i + sz) - here)) +                                           \
      (g2 * (V_LOAD(v + i - sy) - here) + g3 * (V_LOAD(v + i + sy) - here))) +                                          \
     (g4 * (V_LOAD(v + i - left) - here) + g5 * (V_LOAD(v + i + right) - here)))
#define LARGER(a, b) NAME(larger)(a, b)
#define LARGEST LARGER(LARGER(LARGER(g0, g1), LARGER(g2, g3)), LARGER(g4, g5))

typedef struct {
    void (*first_odd)(const Grid *, const float *, float *);
    void (*restrict_even)(const Grid *, const float *, float *);
    void (*prolong_even)(const Grid *, const float *, float *);
    double (*relax_odd)(const Grid *, const float *, const float *, float *);
    void (*relax_even)(const Grid *, const float *, float *);
    double (*turn)(const Grid *, const float *, const float *, float *, float *, float);
    void (*advance)(const Grid *, float, double, const float *, const float *, double *, float *, float *);
    void (*balance_even)(const Grid *, const double *, double *);
    double (*residual_odd)(const Grid *, const double *, const double *, double, float *);
    double (*energy_and_flux)(const Grid *, const double *, const double *, double *);
    void (*strongest)(const Grid *, float *, float *);
} Kernels;
#endif

static inline double NAME(total)(doubles v)
{
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

static inline floats NAME(larger)(floats a, floats b)
{
    const ints first = a > b;
    return (floats)(((ints)a & first) | ((ints)b & ~first));
}

/* z = r / diagonal on odd voxels. */
static void NAME(first_odd)(const Grid *grid, const float *restrict r, float *restrict z_odd)
{
    STRIDES(grid);
    ROWS_OF(grid) {
        ODD_ROW(grid);
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            ODD_FACES(grid);
            const floats diagonal = SUM_FACES;
            PUT(z_odd, QUOTIENT(V_LOAD(r + i), diagonal));
        }
    }
}

/* Adds the residual of even voxels, whose own values are 0, to their aggregates. */
static void NAME(restrict_even)(const Grid *grid, const float *restrict z_odd, float *restrict coarse)
{
    STRIDES(grid);
    float line[8];
    ROWS_OF(grid) {
        EVEN_ROW(grid);
        const int32_t *base = base_of(grid, z, y);
        const uint8_t *part = grid->part + row;
        VECTORS_OF(grid) {
            const int64_t i = row + k, many = grid->half - k < 8 ? grid->half - k : 8;
            EVEN_FACES(grid);
            V_STORE(line, FLOW_IN(z_odd));
            for (int64_t m = 0; m < many; m++) coarse[base[k + m] + part[k + m]] += line[m];
        }
    }
}

static void NAME(prolong_even)(const Grid *grid, const float *restrict coarse, float *restrict z_even)
{
    ROWS_OF(grid) {
        const int64_t row = row_of(grid, z, y);
        const int32_t *base = base_of(grid, z, y);
        const uint8_t *part = grid->part + row;
        for (int64_t k = 0; k < grid->half; k++) z_even[row + k] = coarse[base[k] + part[k]];
    }
}

/* z = (r + flow from even voxels) / diagonal on odd voxels; returns r . z */
static double NAME(relax_odd)(const Grid *grid, const float *restrict r, const float *restrict z_even, float *restrict z_odd)
{
    STRIDES(grid);
    double product = 0;
    ROWS_OF(grid) {
        ODD_ROW(grid);
        doubles sum = {0};
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            ODD_FACES(grid);
            const floats right_side = V_LOAD(r + i), diagonal = SUM_FACES, flow = right_side + FLOW_IN(z_even);
            const floats value = QUOTIENT(flow, diagonal);
            PUT(z_odd, value);
            sum += WIDE(KEEP(right_side * value, MASK_AT(grid, k)));
        }
        product += NAME(total)(sum);
    }
    return product;
}

/* z = flow from odd voxels / diagonal on even voxels. */
static void NAME(relax_even)(const Grid *grid, const float *restrict z_odd, float *restrict z_even)
{
    STRIDES(grid);
    ROWS_OF(grid) {
        EVEN_ROW(grid);
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            EVEN_FACES(grid);
            const floats diagonal = SUM_FACES, flow = FLOW_IN(z_odd);
            PUT(z_even, QUOTIENT(flow, diagonal));
        }
    }
}

/* p = z + beta p, q = A z + beta q on odd voxels; returns p . q */
static double NAME(turn)(const Grid *grid, const float *restrict z_odd, const float *restrict z_even, float *restrict p,
                         float *restrict q, float beta)
{
    STRIDES(grid);
    double product = 0;
    const floats b = ONES * beta;
    ROWS_OF(grid) {
        ODD_ROW(grid);
        doubles sum = {0};
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            ODD_FACES(grid);
            const floats here = V_LOAD(z_odd + i), flow = NET_IN(z_even, here);
            const floats p_new = here + b * V_LOAD(p + i), q_new = b * V_LOAD(q + i) - flow;
            PUT(p, p_new);
            PUT(q, q_new);
            sum += WIDE(KEEP(p_new * q_new, MASK_AT(grid, k)));
        }
        product += NAME(total)(sum);
    }
    return product;
}

/* c += scale alpha p, r -= alpha q, z = r / diagonal on odd voxels */
static void NAME(advance)(const Grid *grid, float alpha, double scale, const float *restrict p, const float *restrict q,
                          double *restrict c, float *restrict r, float *restrict z_odd)
{
    STRIDES(grid);
    const floats a = ONES * alpha;
    const doubles step = WIDE(ONES) * (alpha * scale);
    ROWS_OF(grid) {
        ODD_ROW(grid);
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            ODD_FACES(grid);
            const floats left_over = V_LOAD(r + i) - a * V_LOAD(q + i), diagonal = SUM_FACES;
            D_PUT(c, D_LOAD(c + i) + step * WIDE(V_LOAD(p + i)));
            PUT(r, left_over);
            PUT(z_odd, QUOTIENT(left_over, diagonal));
        }
    }
}

/* Even concentrations in balance with the odd ones. */
static void NAME(balance_even)(const Grid *grid, const double *restrict c_odd, double *restrict c_even)
{
    STRIDES(grid);
    ROWS_OF(grid) {
        EVEN_ROW(grid);
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            EVEN_FACES(grid);
            const doubles diagonal = ((WIDE(g0) + WIDE(g1)) + (WIDE(g2) + WIDE(g3))) + (WIDE(g4) + WIDE(g5));
            const doubles flow = ((WIDE(g0) * D_LOAD(c_odd + i - sz) + WIDE(g1) * D_LOAD(c_odd + i + sz)) +
                                  (WIDE(g2) * D_LOAD(c_odd + i - sy) + WIDE(g3) * D_LOAD(c_odd + i + sy))) +
                                 (WIDE(g4) * D_LOAD(c_odd + i - left) + WIDE(g5) * D_LOAD(c_odd + i + right));
            const int64_t many = grid->half - k < 8 ? grid->half - k : 8;
            double value[8], weight[8];
            D_STORE(value, flow);
            D_STORE(weight, diagonal);
            for (int64_t m = 0; m < many; m++) c_even[i + m] = weight[m] > 0 ? value[m] / weight[m] : 0;
        }
    }
}

/* r = scale (net flow into odd voxels); returns the squared norm before scaling. */
static double NAME(residual_odd)(const Grid *grid, const double *restrict c_odd, const double *restrict c_even, double scale,
                                 float *restrict r)
{
    STRIDES(grid);
    double squares = 0;
    ROWS_OF(grid) {
        ODD_ROW(grid);
        doubles sum = {0};
        VECTORS_OF(grid) {
            const int64_t i = row + k;
            ODD_FACES(grid);
            const doubles here = D_LOAD(c_odd + i);
            const doubles flow =
                ((WIDE(g0) * (D_LOAD(c_even + i - sz) - here) + WIDE(g1) * (D_LOAD(c_even + i + sz) - here)) +
                 (WIDE(g2) * (D_LOAD(c_even + i - sy) - here) + WIDE(g3) * (D_LOAD(c_even + i + sy) - here))) +
                (WIDE(g4) * (D_LOAD(c_even + i - left) - here) + WIDE(g5) * (D_LOAD(c_even + i + right) - here));
            const doubles kept = (doubles)((longs)flow & __builtin_convertvector(MASK_AT(grid, k), longs));
            PUT(r, NARROW(kept * scale));
            sum += kept * kept;
        }
        squares += NAME(total)(sum);
    }
    return squares;
}

/* Dissipated energy of the faces of even voxels, and of the end plates of odd ones where this part holds them;
   flux[z] is the flow through the faces below plane z, flux[nz] that through the last ones. */
static double NAME(energy_and_flux)(const Grid *grid, const double *restrict c_odd, const double *restrict c_even, double *flux)
{
    STRIDES(grid);
    double energy = 0;
    for (int64_t z = grid->has_low ? -1 : 0; z < grid->nz + (grid->has_high ? 1 : 0); z++)
        for (int64_t y = 0; y < grid->ny; y++) {
            EVEN_ROW(grid);
            const int plate = z < 0 ? -1 : z == grid->nz;
            doubles sum = {0}, up = {0}, down = {0};
            VECTORS_OF(grid) {
                const int64_t i = row + k;
                const longs mask = __builtin_convertvector(MASK_AT(grid, k), longs);
                const doubles here = D_LOAD(c_even + i);
                if (plate <= 0) {
                    const doubles g = (doubles)((longs)WIDE(LOOKUP(grid, 1, i)) & mask), step = D_LOAD(c_odd + i + sz) - here;
                    up += g * step;
                    sum += g * step * step;
                }
                if (plate >= 0) {
                    const doubles g = (doubles)((longs)WIDE(LOOKUP(grid, 0, i)) & mask), step = here - D_LOAD(c_odd + i - sz);
                    down += g * step;
                    sum += g * step * step;
                }
                if (plate == 0) {
                    const doubles a = D_LOAD(c_odd + i - sy) - here, b = D_LOAD(c_odd + i + sy) - here;
                    const doubles c = D_LOAD(c_odd + i - left) - here, d = D_LOAD(c_odd + i + right) - here;
                    const doubles all = (WIDE(LOOKUP(grid, 2, i)) * a * a + WIDE(LOOKUP(grid, 3, i)) * b * b) +
                                        (WIDE(LOOKUP(grid, 4, i)) * c * c + WIDE(LOOKUP(grid, 5, i)) * d * d);
                    sum += (doubles)((longs)all & mask);
                }
            }
            energy += NAME(total)(sum);
            if (plate <= 0) flux[z + 1] += NAME(total)(up);
            if (plate >= 0) flux[z] += NAME(total)(down);
        }
    return energy;
}

/* The best conductance among the six faces of each voxel. */
static void NAME(strongest)(const Grid *grid, float *restrict even, float *restrict odd)
{
    STRIDES(grid);
    ROWS_OF(grid) {
        {
            const int64_t row = row_of(grid, z, y);
            VECTORS_OF(grid) {
                const int64_t i = row + k;
                EVEN_FACES(grid);
                PUT(even, LARGEST);
            }
        }
        {
            ODD_ROW(grid);
            VECTORS_OF(grid) {
                const int64_t i = row + k;
                ODD_FACES(grid);
                PUT(odd, LARGEST);
            }
        }
    }
}

static const Kernels NAME(kernels) = {
    NAME(first_odd), NAME(restrict_even), NAME(prolong_even), NAME(relax_odd),       NAME(relax_even), NAME(turn),
    NAME(advance),   NAME(balance_even),  NAME(residual_odd), NAME(energy_and_flux), NAME(strongest),
};
#undef NAME
#undef LOOKUP
