/* Which branches of the instrumented code a run took that no run before it took. */
#ifndef COVERAGE_H
#define COVERAGE_H

#include <stdint.h>

/* A run begins. */
void coverage_begin(void);

/* It is over: how many edges were new, or were taken another order of magnitude of times. */
uint32_t coverage_end(void);

#endif
