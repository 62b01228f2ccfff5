/* HYPERPARAMS: a flat JSON object of numbers. */
#ifndef FL_HYPER_H
#define FL_HYPER_H

#include <stdbool.h>
#include <stdint.h>

/* One hyperparameter a client knows. `value` holds the default before and the choice after. */
struct fl_hyper {
    const char *name;
    float value;
    float least;
    float most;
    bool integer;
};

/*
 * Reads `json` (NULL: every default stands) into `hypers`. A member that is not among them is named
 * in a warning and passed over. Fails (fl_fail) when the text is not a flat object, or a value is
 * not a number, not an integer where it must be, or out of range, and names it.
 */
void fl_hyper_read(const char *json, struct fl_hyper *hypers, uint32_t count);

#endif
