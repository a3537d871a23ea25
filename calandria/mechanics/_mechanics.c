/* Quasi-static mechanics of spheres between walls: contacts with adhesion, sliding and rolling friction with memory, dynamic relaxation.
   Time is counted in substeps: velocities are lengths a substep, and inertia follows from the stiffness of the contacts. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "extension.h"

EXTENSION_MODULE(_mechanics)

#define PI 3.14159265358979323846

enum { HERTZ, JKR, DMT };
enum { LINEAR, MINDLIN };

/* kPa, um, nN, mJ/m2 (= nN/um), pg/us2 (= nN/um). Matrices are (n_types, n_types). */
typedef struct {
    int64_t n_types, adhesion, tangential;
    const double *modulus, *shear, *energy, *rolling, *linear;
    double friction, rolling_friction;
    double damping, cundall, inertia, largest_step;
} Law;

/* A plane: spheres touch it at side * x[axis] + radius > side * position. `velocity` is its motion in one substep. */
typedef struct {
    int64_t axis;
    double side, position, velocity, friction, modulus, shear, energy, linear;
} Wall;

typedef struct {
    int64_t n;
    double *x, *v, *w; /* (n, 3) */
    const double *radius;
    const int32_t *type;
    double length[3];
    int64_t periodic[3];
    int64_t n_pairs;
    const int32_t *first, *second, *image; /* by first, second, image (n_pairs, 2): sides that lie between them; first < second */
    uint8_t *touching;
    double *slip, *roll;       /* (n_pairs, 3) */
    int64_t n_walls;
    Wall *walls;
    uint8_t *wall_touching; /* (n_walls, n) */
    double *wall_slip;      /* (n_walls, n, 3) */
    int64_t n_bonds;
    const int32_t *bond_first, *bond_second, *bond_image;
    const double *bond_length, *bond_stiffness;
    int64_t n_tethers;
    const int32_t *tethered;
    const double *anchor; /* (n_tethers, 3) */
    double tether_stiffness;
} State;

/* What follows from two radii and the law alone. */
typedef struct {
    double radius, modulus, shear, pull_off, critical, size, depth, strength, linear;
    double root;     /* of the last contact, where the next search begins */
    double shift[2]; /* from the image of the second sphere that is meant to the sphere itself, x and y */
} Pair;

static Pair pair_of(double radius, double modulus, double shear, double energy, double linear, int64_t adhesion) {
    Pair p = {radius, modulus, shear, 0, 0, 0, 0, 0, linear, 0, {0, 0}};
    if (energy <= 0 || adhesion == HERTZ)
        return p;
    if (adhesion == DMT) {
        p.strength = 4 * PI * energy * radius;
        p.critical = 2 * p.strength;
        return p;
    }
    const double c = sqrt(PI * energy / modulus), s = cbrt(c * radius);
    p.size = s * s;                      /* a = size t2, overlap = depth (t4 - 2 t) */
    p.depth = c * s;
    p.strength = modulus * c * c * radius; /* F = strength (4/3 t6 - 4 t3) */
    p.critical = 6 * PI * energy * radius;
    const double t = cbrt(1.5); /* the largest tension, 3 pi energy R */
    p.pull_off = -p.depth * (t * t * t * t - 2 * t);
    return p;
}

/* Contact radius and elastic force with adhesion at an overlap above -pull_off. */
static inline double contact(Pair *p, double overlap, double *force) {
    if (p->size > 0) {
        /* t4 - 2 t = y by Newton's iteration, which doubles the digits; it is convex there */
        const double y = overlap / p->depth;
        double t = p->root, step;
        if (t == 0)
            t = sqrt(sqrt(y + 2 * sqrt(sqrt(y + 3.0))));
        do {
            const double t3 = t * t * t;
            step = (t * t3 - 2 * t - y) / (4 * t3 - 2);
            t -= step;
        } while (fabs(step) > 1e-9);
        p->root = t;
        const double t3 = t * t * t;
        *force = p->strength * (4.0 / 3.0 * t3 * t3 - 4 * t3);
        return p->size * t * t;
    }
    const double a = overlap > 0 ? sqrt(p->radius * overlap) : 0;
    *force = 4.0 / 3.0 * p->modulus * a * overlap - p->strength;
    return a;
}

static inline void cross(const double *a, const double *b, double *c) {
    c[0] = a[1] * b[2] - a[2] * b[1];
    c[1] = a[2] * b[0] - a[0] * b[2];
    c[2] = a[0] * b[1] - a[1] * b[0];
}

/* Shorten a spring to the force that friction bears; returns whether it slips. */
static inline int limit(double *spring, double *force, double largest) {
    const double size = sqrt(force[0] * force[0] + force[1] * force[1] + force[2] * force[2]);
    if (size <= largest)
        return 0;
    const double share = size > 0 ? largest / size : 0;
    for (int k = 0; k < 3; k++) {
        spring[k] *= share;
        force[k] *= share;
    }
    return 1;
}

/* Forces and lever arms as in LAMMPS's `granular`: surfaces slide at the full radii, pairs turn about the middle of their overlap.
   Forces (n, 3), torques (n, 3), and the stiffness that acts on each sphere's motion and rotation (n). Springs of friction are advanced.
   `inertia` and `rotary` of the last substep serve the damping; both 0 where there was none. pressed: force on each wall, nN. */
static void evaluate(State *s, const Law *law, Pair *pairs, const double *inertia, double *force, double *torque, double *stiffness,
                     double *stiffness_rotary, double *pressed) {
    const int64_t n = s->n;
    memset(force, 0, 3 * n * sizeof *force);
    memset(torque, 0, 3 * n * sizeof *torque);
    memset(stiffness, 0, n * sizeof *stiffness);
    memset(stiffness_rotary, 0, n * sizeof *stiffness_rotary);
    const double *x = s->x, *v = s->v, *w = s->w, *r = s->radius;
    for (int64_t c = 0; c < s->n_pairs; c++) {
        const int64_t i = s->first[c], j = s->second[c];
        Pair *p = pairs + c;
        const double d[3] = {x[3 * j] - x[3 * i] - p->shift[0], x[3 * j + 1] - x[3 * i + 1] - p->shift[1], x[3 * j + 2] - x[3 * i + 2]};
        const double squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2], sum = r[i] + r[j];
        double *slip = s->slip + 3 * c, *roll = s->roll + 3 * c;
        if (!s->touching[c]) {
            if (squared >= sum * sum)
                continue;
            s->touching[c] = 1;
            p->root = 0;
            for (int k = 0; k < 3; k++)
                slip[k] = roll[k] = 0;
        }
        const double distance = sqrt(squared), overlap = sum - distance;
        if (overlap <= -p->pull_off) {
            s->touching[c] = 0;
            continue;
        }
        const double normal[3] = {d[0] / distance, d[1] / distance, d[2] / distance};
        double pushing;
        const double a = contact(p, overlap, &pushing), kn = 2 * p->modulus * a;
        const double kt = law->tangential == MINDLIN ? 8 * p->shear * a : p->linear;
        const double critical = fabs(pushing + p->critical), arm_i = r[i] - 0.5 * overlap, arm_j = r[j] - 0.5 * overlap;
        double relative[3], spin[3], turned[3], sliding[3];
        for (int k = 0; k < 3; k++) {
            relative[k] = v[3 * i + k] - v[3 * j + k];
            spin[k] = r[i] * w[3 * i + k] + r[j] * w[3 * j + k];
        }
        cross(spin, normal, turned);
        const double approach = relative[0] * normal[0] + relative[1] * normal[1] + relative[2] * normal[2];
        const double reduced = inertia[i] > 0 && inertia[j] > 0 ? inertia[i] * inertia[j] / (inertia[i] + inertia[j]) : 0;
        const double cn = 2 * law->damping * sqrt(reduced * kn);
        pushing += cn * approach;
        const double out = slip[0] * normal[0] + slip[1] * normal[1] + slip[2] * normal[2];
        double shear[3];
        for (int k = 0; k < 3; k++) {
            sliding[k] = relative[k] - approach * normal[k] + turned[k];
            slip[k] += sliding[k] - out * normal[k];
            shear[k] = -kt * slip[k];
        }
        if (!limit(slip, shear, law->friction * critical))
            for (int k = 0; k < 3; k++)
                shear[k] -= 0.5 * cn * sliding[k];
        double twist[3];
        cross(normal, shear, twist);
        for (int k = 0; k < 3; k++) {
            const double f = shear[k] - pushing * normal[k];
            force[3 * i + k] += f;
            force[3 * j + k] -= f;
            torque[3 * i + k] += arm_i * twist[k];
            torque[3 * j + k] += arm_j * twist[k];
        }
        const double k1 = kn + kt, lever = 0.75 * kt * sum;
        double rolling = 0;
        if (law->rolling_friction > 0) {
            const double stiff = law->rolling[s->type[i] * law->n_types + s->type[j]];
            double difference[3], rolled[3], resisting[3];
            for (int k = 0; k < 3; k++)
                difference[k] = w[3 * i + k] - w[3 * j + k];
            cross(difference, normal, rolled);
            const double outward = roll[0] * normal[0] + roll[1] * normal[1] + roll[2] * normal[2];
            for (int k = 0; k < 3; k++) {
                roll[k] += p->radius * rolled[k] - outward * normal[k];
                resisting[k] = -stiff * roll[k];
            }
            limit(roll, resisting, law->rolling_friction * critical);
            cross(normal, resisting, twist);
            for (int k = 0; k < 3; k++) {
                torque[3 * i + k] += p->radius * twist[k];
                torque[3 * j + k] -= p->radius * twist[k];
            }
            rolling = stiff * p->radius * p->radius;
        }
        stiffness[i] += k1;
        stiffness[j] += k1;
        stiffness_rotary[i] += lever * r[i] + rolling;
        stiffness_rotary[j] += lever * r[j] + rolling;
    }
    for (int64_t q = 0; q < s->n_walls; q++) {
        const Wall *wall = s->walls + q;
        const int64_t axis = wall->axis;
        const double side = wall->side;
        pressed[q] = 0;
        for (int64_t i = 0; i < n; i++) {
            const double overlap = side * (x[3 * i + axis] - wall->position) + r[i];
            uint8_t *touching = s->wall_touching + q * n + i;
            if (!*touching && overlap <= 0)
                continue;
            double *slip = s->wall_slip + 3 * (q * n + i);
            if (!*touching) {
                *touching = 1;
                slip[0] = slip[1] = slip[2] = 0;
            }
            Pair p = pair_of(r[i], wall->modulus, wall->shear, wall->energy, wall->linear, law->adhesion);
            if (overlap <= -p.pull_off) {
                *touching = 0;
                continue;
            }
            double normal[3] = {0, 0, 0}, pushing, turned[3], shear[3], twist[3], sliding[3];
            normal[axis] = side;
            const double a = contact(&p, overlap, &pushing), kn = 2 * p.modulus * a;
            const double kt = law->tangential == MINDLIN ? 8 * p.shear * a : p.linear;
            const double critical = fabs(pushing + p.critical), arm = r[i];
            const double approach = (v[3 * i + axis] - wall->velocity) * side;
            pushing += 2 * law->damping * sqrt(inertia[i] * kn) * approach;
            cross(w + 3 * i, normal, turned);
            for (int k = 0; k < 3; k++) {
                sliding[k] = k == axis ? 0 : v[3 * i + k] + arm * turned[k];
                slip[k] += sliding[k];
                shear[k] = -kt * slip[k];
            }
            limit(slip, shear, wall->friction * critical);
            cross(normal, shear, twist);
            for (int k = 0; k < 3; k++) {
                force[3 * i + k] += shear[k] - pushing * normal[k];
                torque[3 * i + k] += arm * twist[k];
            }
            pressed[q] += pushing;
            stiffness[i] += kn + kt;
            stiffness_rotary[i] += kt * r[i] * r[i];
        }
    }
    for (int64_t b = 0; b < s->n_bonds; b++) {
        const int64_t i = s->bond_first[b], j = s->bond_second[b];
        const double k1 = s->bond_stiffness[b];
        double d[3], squared = 0;
        for (int k = 0; k < 3; k++) {
            d[k] = x[3 * j + k] - x[3 * i + k] - (k < 2 ? s->length[k] * s->bond_image[2 * b + k] : 0);
            squared += d[k] * d[k];
        }
        const double distance = sqrt(squared), f = k1 * (distance - s->bond_length[b]) / distance;
        for (int k = 0; k < 3; k++) {
            force[3 * i + k] += f * d[k];
            force[3 * j + k] -= f * d[k];
        }
        stiffness[i] += k1;
        stiffness[j] += k1;
    }
    for (int64_t b = 0; b < s->n_tethers; b++) {
        const int64_t i = s->tethered[b];
        for (int k = 0; k < 3; k++) {
            force[3 * i + k] -= s->tether_stiffness * (x[3 * i + k] - s->anchor[3 * b + k]);
        }
        stiffness[i] += s->tether_stiffness;
    }
}

static Pair *pair_constants(const State *s, const Law *law) {
    Pair *pairs = malloc((s->n_pairs ? s->n_pairs : 1) * sizeof *pairs);
    for (int64_t c = 0; pairs && c < s->n_pairs; c++) {
        const int64_t i = s->first[c], j = s->second[c], t = s->type[i] * law->n_types + s->type[j];
        const double *r = s->radius, effective = r[i] * r[j] / (r[i] + r[j]);
        pairs[c] = pair_of(effective, law->modulus[t], law->shear[t], law->energy[t], law->linear[t], law->adhesion);
        for (int k = 0; k < 2; k++)
            pairs[c].shift[k] = s->length[k] * s->image[2 * c + k];
    }
    return pairs;
}

/* One evaluation at the state as it is: forces (n, 3) in nN, torques (n, 3) in nN um. Springs advance by the velocities. 0, or -1 without memory. */
EXPORT int64_t forces(State *s, const Law *law, double *force, double *torque, double *pressed) {
    Pair *pairs = pair_constants(s, law);
    double *work = calloc(3 * s->n + 1, sizeof *work);
    if (!pairs || !work) {
        free(pairs);
        free(work);
        return -1;
    }
    evaluate(s, law, pairs, work, force, torque, work + s->n, work + 2 * s->n, pressed);
    free(pairs);
    free(work);
    return 0;
}

static inline double damped(double force, double motion, double cundall) {
    return force * (1 - cundall * ((force * motion > 0) - (force * motion < 0)));
}

/* Advance by up to `substeps`, and stop sooner when a sphere has moved by more than half of `skin` since this call: the pairs must be found anew.
   inertia, rotary (n): of the last substep, 0 at the start. Returns the substeps done, or -1 without memory. */
EXPORT int64_t advance(State *s, const Law *law, double *inertia, double *rotary, int64_t substeps, double skin, double *pressed) {
    const int64_t n = s->n;
    Pair *pairs = pair_constants(s, law);
    double *work = malloc((11 * n + 1) * sizeof *work);
    if (!pairs || !work) {
        free(pairs);
        free(work);
        return -1;
    }
    double *force = work, *torque = work + 3 * n, *began = work + 6 * n, *stiffness = work + 9 * n, *stiffness_rotary = work + 10 * n;
    memcpy(began, s->x, 3 * n * sizeof *began);
    const double reach = 0.25 * skin * skin, cap = law->largest_step;
    int64_t done = 0;
    int far = 0;
    while (done < substeps && !far) {
        for (int64_t q = 0; q < s->n_walls; q++)
            s->walls[q].position += s->walls[q].velocity;
        evaluate(s, law, pairs, inertia, force, torque, stiffness, stiffness_rotary, pressed);
        double mean = 0, mean_rotary = 0;
        for (int64_t i = 0; i < n; i++) {
            mean += stiffness[i];
            mean_rotary += stiffness_rotary[i];
        }
        /* spheres without contacts stay slow: a share of the mean stiffness holds them, and inertia falls by at most 5 % a substep */
        const double least = 0.03 * mean / n + 1e3, least_rotary = 0.03 * mean_rotary / n + 1e3;
        for (int64_t i = 0; i < n; i++) {
            inertia[i] = fmax(law->inertia * fmax(stiffness[i], least), 0.95 * inertia[i]);
            rotary[i] = fmax(law->inertia * fmax(stiffness_rotary[i], least_rotary), 0.95 * rotary[i]);
            double moved = 0;
            for (int k = 0; k < 3; k++) {
                double *v = s->v + 3 * i + k, *w = s->w + 3 * i + k;
                *v += damped(force[3 * i + k], *v, law->cundall) / inertia[i];
                *w += damped(torque[3 * i + k], *w, law->cundall) / rotary[i];
                *v = fmin(fmax(*v, -cap), cap);
                s->x[3 * i + k] += *v;
                const double d = s->x[3 * i + k] - began[3 * i + k];
                moved += d * d;
            }
            far |= moved > reach;
        }
        done++;
    }
    free(pairs);
    free(work);
    return done;
}

/* A grid of cells, about one small sphere wide. */
typedef struct {
    int64_t count[3];
    double low[3], width[3];
} Cells;

static Cells cells_of(int64_t n, const double *x, const double *radius, double skin, const double *length, const int64_t *periodic) {
    Cells cells;
    double width = 0, extent[3];
    for (int64_t i = 0; i < n; i++)
        width += 2 * radius[i] / n;
    width += skin;
    for (int k = 0; k < 3; k++) {
        cells.low[k] = 0;
        extent[k] = length[k];
        if (!periodic[k]) {
            double high = x[k];
            cells.low[k] = x[k];
            for (int64_t i = 1; i < n; i++) {
                cells.low[k] = fmin(cells.low[k], x[3 * i + k]);
                high = fmax(high, x[3 * i + k]);
            }
            extent[k] = high - cells.low[k];
        }
    }
    for (;; width *= 1.3) { /* far scattered spheres get wider cells */
        double total = 1;
        for (int k = 0; k < 3; k++)
            total *= fmax(1, floor(extent[k] / width));
        if (total <= 4.0 * n + 64)
            break;
    }
    for (int k = 0; k < 3; k++) {
        const double count = fmax(1, floor(extent[k] / width));
        cells.count[k] = (int64_t)count;
        cells.width[k] = extent[k] > 0 ? extent[k] / count : 1;
    }
    return cells;
}

/* Cell of a coordinate, not wrapped and not clipped. */
static inline int64_t cell_along(const Cells *cells, int k, double x) { return (int64_t)floor((x - cells->low[k]) / cells->width[k]); }

static inline int64_t modulo(int64_t index, int64_t count) {
    index %= count;
    return index < 0 ? index + count : index;
}

/* A pair as it is found. */
typedef struct {
    int32_t first, second, image[2];
} Found;

static int by_order(const void *a, const void *b) {
    const int32_t *p = &((const Found *)a)->first, *q = &((const Found *)b)->first;
    for (int k = 0; k < 4; k++)
        if (p[k] != q[k])
            return p[k] < q[k] ? -1 : 1;
    return 0;
}

/* Pairs closer than the sum of their radii plus `skin`, by first, second, image; first < second. Each sphere looks for those that are no larger.
   Two spheres are a pair for each image of the second that is near: image (n_pairs, 2) counts the periodic sides x and y between them.
   Returns their number, also where it exceeds `capacity` and nothing is written; -1 without memory. */
EXPORT int64_t neighbours(int64_t n, const double *x, const double *radius, double skin, const double *length, const int64_t *periodic,
                          int64_t capacity, int32_t *first, int32_t *second, int32_t *image) {
    if (n < 2)
        return 0;
    const Cells cells = cells_of(n, x, radius, skin, length, periodic);
    const int64_t n_cells = cells.count[0] * cells.count[1] * cells.count[2];
    int64_t *begin = calloc(n_cells + 1, sizeof *begin), *home = malloc(n * sizeof *home), *row = calloc(n + 1, sizeof *row);
    int32_t *members = malloc(n * sizeof *members);
    Found *pairs = malloc((capacity + 1) * sizeof *pairs), *sorted = malloc((capacity + 1) * sizeof *sorted);
    int64_t found = begin && home && row && members && pairs && sorted ? 0 : -1;
    if (found < 0)
        goto end;
    for (int64_t i = 0; i < n; i++) {
        int64_t at[3];
        for (int k = 0; k < 3; k++) {
            at[k] = cell_along(&cells, k, x[3 * i + k]);
            if (periodic[k])
                at[k] = modulo(at[k], cells.count[k]);
            else
                at[k] = at[k] < 0 ? 0 : at[k] >= cells.count[k] ? cells.count[k] - 1 : at[k];
        }
        home[i] = (at[0] * cells.count[1] + at[1]) * cells.count[2] + at[2];
        begin[home[i]]++;
    }
    for (int64_t c = 0, sum = 0; c <= n_cells; c++) {
        const int64_t here = begin[c];
        begin[c] = sum += here;
    }
    for (int64_t i = n - 1; i >= 0; i--)
        members[--begin[home[i]]] = (int32_t)i;
    for (int64_t i = 0; i < n; i++) {
        const double reach = 2 * radius[i] + skin + 1e-9 * cells.width[0]; /* a coordinate near a border may round into the next cell */
        int64_t from[3], to[3];
        int wide[2]; /* whether a second image may be near */
        for (int k = 0; k < 3; k++) {
            from[k] = cell_along(&cells, k, x[3 * i + k] - reach);
            to[k] = cell_along(&cells, k, x[3 * i + k] + reach);
            if (k < 2)
                wide[k] = periodic[k] && 2 * reach >= length[k];
            if (periodic[k]) {
                if (to[k] - from[k] + 1 >= cells.count[k]) {
                    from[k] = 0;
                    to[k] = cells.count[k] - 1;
                }
            } else {
                from[k] = from[k] < 0 ? 0 : from[k];
                to[k] = to[k] >= cells.count[k] ? cells.count[k] - 1 : to[k];
            }
        }
        for (int64_t a = from[0]; a <= to[0]; a++)
            for (int64_t b = from[1]; b <= to[1]; b++)
                for (int64_t c = from[2]; c <= to[2]; c++) {
                    const int64_t cell = (modulo(a, cells.count[0]) * cells.count[1] + modulo(b, cells.count[1])) * cells.count[2] +
                                         modulo(c, cells.count[2]);
                    for (int64_t m = begin[cell]; m < begin[cell + 1]; m++) {
                        const int64_t j = members[m];
                        if (radius[j] > radius[i] || (radius[j] == radius[i] && j >= i))
                            continue;
                        const int64_t p = i < j ? i : j, q = i < j ? j : i;
                        const double sum = radius[i] + radius[j] + skin, z = x[3 * q + 2] - x[3 * p + 2];
                        double d[2], nearest[2];
                        for (int k = 0; k < 2; k++) {
                            d[k] = x[3 * q + k] - x[3 * p + k];
                            nearest[k] = periodic[k] ? rint(d[k] / length[k]) : 0;
                        }
                        for (int u = -wide[0]; u <= wide[0]; u++)
                            for (int v = -wide[1]; v <= wide[1]; v++) {
                                const double dx = d[0] - length[0] * (nearest[0] + u), dy = d[1] - length[1] * (nearest[1] + v);
                                if (dx * dx + dy * dy + z * z >= sum * sum)
                                    continue;
                                if (found < capacity) {
                                    pairs[found] =
                                        (Found){(int32_t)p, (int32_t)q, {(int32_t)nearest[0] + u, (int32_t)nearest[1] + v}};
                                    row[p + 1]++;
                                }
                                found++;
                            }
                    }
                }
    }
    if (found > capacity)
        goto end;
    for (int64_t i = 0; i < n; i++)
        row[i + 1] += row[i];
    for (int64_t c = 0; c < found; c++)
        sorted[row[pairs[c].first]++] = pairs[c]; /* row[i] is now where row i ends */
    for (int64_t i = 0, start = 0; i < n; start = row[i], i++)
        qsort(sorted + start, row[i] - start, sizeof *sorted, by_order);
    for (int64_t c = 0; c < found; c++) {
        first[c] = sorted[c].first;
        second[c] = sorted[c].second;
        image[2 * c] = sorted[c].image[0];
        image[2 * c + 1] = sorted[c].image[1];
    }
end:
    free(begin);
    free(home);
    free(row);
    free(members);
    free(pairs);
    free(sorted);
    return found;
}

/* Order of a pair of one list against one of another. */
static inline int compared(const int32_t *first, const int32_t *second, const int32_t *image, int64_t a, const int32_t *other_first,
                           const int32_t *other_second, const int32_t *other_image, int64_t b) {
    const Found p = {first[a], second[a], {image[2 * a], image[2 * a + 1]}};
    const Found q = {other_first[b], other_second[b], {other_image[2 * b], other_image[2 * b + 1]}};
    return by_order(&p, &q);
}

/* Carry the memory of contacts from one list of pairs to another. What is new does not touch. */
EXPORT void carry(int64_t n_old, const int32_t *old_first, const int32_t *old_second, const int32_t *old_image, const uint8_t *old_touching,
                  const double *old_slip, const double *old_roll, int64_t n_new, const int32_t *first, const int32_t *second,
                  const int32_t *image, uint8_t *touching, double *slip, double *roll) {
    int64_t o = 0;
    for (int64_t c = 0; c < n_new; c++) {
        int order = 1;
        while (o < n_old && (order = compared(old_first, old_second, old_image, o, first, second, image, c)) < 0)
            o++;
        const int same = o < n_old && order == 0;
        touching[c] = same ? old_touching[o] : 0;
        for (int k = 0; k < 3; k++) {
            slip[3 * c + k] = same ? old_slip[3 * o + k] : 0;
            roll[3 * c + k] = same ? old_roll[3 * o + k] : 0;
        }
    }
}
