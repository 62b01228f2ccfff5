/*
 * The windows of a recording: WINDOW_SIZE samples, the first and the last with the same label, each
 * window WINDOW_STEP after the one before. Of each channel a window gives three features: the mean,
 * and the logarithms of the variance and of the mean absolute difference from sample to sample; all
 * means come first, then all variances. They are computed anew each time: of a recording of any
 * length nothing is kept but where its windows are.
 */
#ifndef WINDOWS_H
#define WINDOWS_H

#include "fl.h"

#define WINDOW_SIZE 100 /* 2 s at 50 Hz */
#define WINDOW_STEP 50

struct windows {
    const struct fl_dataset *recording;
    float *samples;  /* room for those of a window, [WINDOW_SIZE, channels] */
    float *features; /* of the window looked at last, [3 * channels] */
    float *starts;   /* where windows begin: whole numbers, which floats hold up to 2^24 */
    /* What training draws from: the starts alone, in place of samples and of labels. */
    struct fl_dataset places;
};

/* Finds all windows. Fails (fl_fail) when there is none, or they do not fit into the arena. */
void windows_find(struct windows *windows, const struct fl_dataset *recording,
                  struct fl_arena *arena);

/* Computes the features of the window that begins at `start`, and returns its label. */
float windows_look(const struct windows *windows, float start);

#endif
