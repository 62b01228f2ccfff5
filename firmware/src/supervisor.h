/*
 * The proplet itself: everything that happens goes as an event into the state machine of
 * lib/proplet, and what the machine decides is carried out here. One thread; the only other is the
 * worker, which runs modules.
 */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include "config.h"

/* Prepares everything. `config` outlives it. Returns 0, or the negative error of what failed. */
int supervisor_begin(const struct config *config);

/* Runs for ever. */
_Noreturn void supervisor_run(void);

#endif
