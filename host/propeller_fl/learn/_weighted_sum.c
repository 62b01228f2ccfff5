/*
 * The one loop that numpy has not: float32 rows, weighted, into sums of float64, in one pass.
 * learn/_weighted_sum.py has the same in numpy; both give the same bits, whatever the compiler, if
 * it keeps to IEEE 754 and contracts nothing (-ffp-contract=off).
 */
#include <stddef.h>

#define GROUP 8 /* rows of one pass over the sums */

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

static double product(double weight, const float *row, size_t i)
{
    return weight * (double)row[i];
}

static void add_group(double *restrict total, const float *const *rows, const double *weights,
                      size_t size)
{
    const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const float *e = rows[4], *f = rows[5], *g = rows[6], *h = rows[7];
    const double wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
    const double we = weights[4], wf = weights[5], wg = weights[6], wh = weights[7];

    for (size_t i = 0; i < size; i++) {
        double sum = total[i];

        sum += product(wa, a, i);
        sum += product(wb, b, i);
        sum += product(wc, c, i);
        sum += product(wd, d, i);
        sum += product(we, e, i);
        sum += product(wf, f, i);
        sum += product(wg, g, i);
        sum += product(wh, h, i);
        total[i] = sum;
    }
}

/* total[i] += weights[0] · rows[0][i], then weights[1] · rows[1][i], … of `height` rows.
 *
 * `total` has `size` sums, every row `size` values, and no row overlaps `total`. Nothing fails. */
EXPORTED void propeller_fl_add_weighted(double *restrict total, const float *const *rows,
                                        const double *weights, size_t height, size_t size)
{
    size_t row = 0;

    for (; height - row >= GROUP; row += GROUP) {
        add_group(total, rows + row, weights + row, size);
    }
    for (; row < height; row++) {
        for (size_t i = 0; i < size; i++) {
            total[i] += product(weights[row], rows[row], i);
        }
    }
}
